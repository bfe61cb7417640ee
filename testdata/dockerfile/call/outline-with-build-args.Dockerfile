#= --build-arg A=given --build-arg TARGETARCH=mine
ARG A=default
FROM debian:12
ARG A B=$A TARGETARCH TARGETOS
RUN x
