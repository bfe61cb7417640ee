FROM debian:12
COPY --chmod=64a a /1
