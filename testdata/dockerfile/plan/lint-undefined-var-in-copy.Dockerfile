FROM debian:12
COPY $SRC /x
