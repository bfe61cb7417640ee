FROM --platform=linux/amd64 debian:12 AS build-amd64
FROM --platform=linux/amd64 debian:12 AS on-linux
FROM --platform=linux/amd64 debian:12 AS plain
