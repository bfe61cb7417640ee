FROM debian:12
RUN --security=insecure one
#= --allow network.host
