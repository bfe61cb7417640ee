FROM debian:12
RUN true
#= --build-arg BUILDKIT_SANDBOX_HOSTNAME=me
