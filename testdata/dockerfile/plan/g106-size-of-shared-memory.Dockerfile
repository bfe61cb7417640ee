#= --shm-size 134217728
FROM debian:12
RUN df /dev/shm
