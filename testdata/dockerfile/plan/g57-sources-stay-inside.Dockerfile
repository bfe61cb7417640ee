FROM debian:12
COPY ../../etc/passwd /x
COPY . /all
