# syntax=docker.io/docker/dockerfile:1.99
FROM scratch
