#= --platform linux/arm64
FROM --platform=$BUILDPLATFORM debian:12 AS build
FROM build AS test
ARG TARGETARCH
RUN test
