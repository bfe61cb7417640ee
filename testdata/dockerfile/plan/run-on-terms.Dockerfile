# syntax=docker/dockerfile:1-labs
FROM debian:12
RUN --retry=3 --timeout=10m --cache-ttl=7d true
RUN --security=sandbox true
