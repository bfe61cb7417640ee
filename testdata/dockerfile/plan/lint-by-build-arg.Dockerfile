# check=error=true
FROM debian:12 AS Base
MAINTAINER me
#= --build-arg BUILDKIT_DOCKERFILE_CHECK=skip=all
