#= --add-host host.docker.internal=host-gateway
FROM debian:12
RUN curl host.docker.internal
