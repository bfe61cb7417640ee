FROM debian:12
COPY --link --chown=app:staff a /srv/
COPY --link --chown=1:2 b /srv/
