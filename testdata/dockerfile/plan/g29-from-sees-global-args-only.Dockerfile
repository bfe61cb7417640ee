ARG TAG=11
ARG IMAGE=debian:$TAG
FROM scratch
ARG IMAGE=rich
ARG TAG
FROM $IMAGE
#= --build-arg TAG=12
