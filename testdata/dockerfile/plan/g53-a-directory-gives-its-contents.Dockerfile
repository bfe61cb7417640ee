FROM debian:12
COPY dir /dst
COPY one two /dst/
