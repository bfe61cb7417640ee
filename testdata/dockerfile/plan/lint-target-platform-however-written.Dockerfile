FROM --platform=${TARGETPLATFORM} debian:12 AS a
FROM --platform="$TARGETPLATFORM" debian:12 AS b
FROM --platform=${TARGETPLATFORM:-linux/arm64} debian:12 AS c
FROM --platform=$TARGETOS/$TARGETARCH debian:12 AS d
