# VERSION is what to build
ARG VERSION=1.2
# app serves the pages
FROM debian:12 AS app
ARG VERSION
# DEBUG makes it talk
ARG DEBUG=
ARG NOTHING
# a comment of no one
ARG OTHER=$VERSION-x
RUN make
