FROM debian:12
COPY a <<b c <<d /dst/
b
b
d
d
