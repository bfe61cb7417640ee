FROM debian:12
RUN env
#= --build-arg FTP_PROXY=f --build-arg all_proxy=a --build-arg SOURCE_DATE_EPOCH=86400 --build-arg BUILDKIT_SYNTAX=docker/dockerfile:1
#= --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1 --build-arg BUILDKIT_INLINE_CACHE=1 --build-arg BUILDKIT_MULTI_PLATFORM=1
