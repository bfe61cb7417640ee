#= --platform linux/arm64
ARG RUNS_ON=linux/amd64
FROM --platform=$RUNS_ON debian:12
RUN x
