# syntax=docker/dockerfile:1
FROM scratch
#= --build-arg BUILDKIT_SYNTAX=tonistiigi/frontend
