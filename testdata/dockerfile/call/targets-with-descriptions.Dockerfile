# build compiles
FROM --platform=$BUILDPLATFORM debian:12 AS Build
# something else
FROM debian:12 AS test
# several lines, and
# release is what ships
FROM scratch AS release
