ARG P
FROM --platform=$TARGETPLATFORM debian:12 AS a
FROM --platform=linux/amd64 debian:12 AS b
FROM --platform=linux/amd64 debian:12 AS b-amd64
FROM --platform=linux/amd64 debian:12
COPY --from=b /x /
COPY --from=b-amd64 /x /
COPY --from=a /x /
