#= --target tools
FROM debian:12 AS tools
ARG TARGETSTAGE
RUN echo $TARGETSTAGE
FROM debian:12
