FROM debian:12
ARG M=4755
COPY --chmod=$M a /1
COPY --chmod=u=rwX,go=rX a /2
