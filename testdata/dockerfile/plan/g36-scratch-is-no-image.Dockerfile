#= --build-context scratch=docker-image://debian:12
FROM scratch
COPY a /
