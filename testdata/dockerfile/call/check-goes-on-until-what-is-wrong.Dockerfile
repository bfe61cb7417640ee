FROM debian:12 AS Base
MAINTAINER me
WORKDIR rel
COPY --chmod=x a b
EXPOSE 80/TCP
