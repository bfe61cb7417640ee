FROM --platform=$BUILDPLATFORM debian:12 AS build
ARG TARGETARCH
ARG BUILDPLATFORM
RUN make $TARGETARCH
FROM arm
COPY --from=build /out /
#= --platform linux/arm64 --name-platform true
