#= --build-context alpine=docker-image://debian:12
FROM docker.io/library/alpine:latest
RUN make
