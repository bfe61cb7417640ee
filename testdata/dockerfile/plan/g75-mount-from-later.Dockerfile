FROM debian:12 AS a
RUN --mount=from=b,target=/x true
FROM scratch AS b
#= --target a
