FROM debian:12
COPY .wh.a /dst/
