FROM debian:12
ARG A=1
ARG B=2
ARG A=3
RUN ["make", "all"]
