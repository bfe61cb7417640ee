FROM debian:12
WORKDIR /
RUN true
