FROM debian:12
ARG D=/srv
ENV F=a.txt
WORKDIR $D
COPY --chown=${U:-7} $F ${D}/$F.bak
ADD ${F%.txt}.tar .
