FROM debian:12
COPY dir /d1/
COPY dir/ /d1/
COPY dir/. /d1/
COPY ./dir/./ /d1/
