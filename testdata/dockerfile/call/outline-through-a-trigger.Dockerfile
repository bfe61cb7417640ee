FROM debian:12 AS base
ONBUILD ARG LATER=1
ONBUILD RUN --mount=type=secret,id=s x
FROM base
