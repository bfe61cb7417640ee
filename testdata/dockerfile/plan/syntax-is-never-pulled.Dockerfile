# syntax=docker/dockerfile:1.7-labs --x
FROM scratch
