FROM debian:12
RUN true
#= --add-host db=10.0.0.1 --hostname builder --shm-size 1000
