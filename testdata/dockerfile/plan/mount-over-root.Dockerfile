FROM debian:12
RUN --mount=target=. true
