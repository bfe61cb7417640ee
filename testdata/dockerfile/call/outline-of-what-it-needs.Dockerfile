#= --target app
ARG UNUSED=1 BASE=debian:12
FROM $BASE AS build
# CFLAGS are for the compiler
ARG CFLAGS=-O2
RUN --mount=type=cache,target=/c --mount=type=secret,id=token cc
FROM debian:12 AS other
ARG ELSEWHERE
RUN --mount=type=secret,id=hidden x
FROM debian:12 AS app
COPY --from=build /a /a
RUN --mount=type=secret,id=token,required --mount=type=ssh x
RUN --mount=type=ssh,id=work,required=true --mount=type=cache,id=deps,target=/d x
