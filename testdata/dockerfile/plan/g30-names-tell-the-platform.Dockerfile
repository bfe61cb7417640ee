#= --platform linux/arm64 --name-platform true
FROM --platform=$BUILDPLATFORM debian:12 AS build
RUN cross
FROM arm
COPY --from=build /a /a
RUN native
