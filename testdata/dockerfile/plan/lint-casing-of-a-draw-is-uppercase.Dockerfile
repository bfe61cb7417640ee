FROM debian:12
RUN a
run b
label a=b
