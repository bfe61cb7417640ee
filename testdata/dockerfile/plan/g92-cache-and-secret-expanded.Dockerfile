FROM debian:12
ARG ID=x DIR=/c
RUN --mount=type=cache,id=$ID-$MISSING,target=${DIR} --mount=type=secret,id=$ID true
