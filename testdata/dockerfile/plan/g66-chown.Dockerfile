FROM debian:12
ENV U=app
COPY --chown=$U a /1
COPY --chown=1000 a /2
COPY --chown=:5 a /3
COPY --chown=app: a /4
COPY --chown=app:staff a /5
