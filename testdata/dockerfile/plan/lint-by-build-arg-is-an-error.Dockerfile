#= --build-arg BUILDKIT_DOCKERFILE_CHECK=error=true
FROM debian:12 AS Base
MAINTAINER me
