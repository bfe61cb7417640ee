FROM debian:12
ARG A=1
RUN ["echo", "$A"]
