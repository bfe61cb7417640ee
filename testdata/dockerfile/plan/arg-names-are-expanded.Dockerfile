FROM debian:12
ARG N=NAME
ARG $N=value
RUN true
