FROM debian:12
ENV E=e
ARG A=${BROKEN:?never} B=$E-$A
ARG C=$B
RUN true
#= --build-arg A=given
