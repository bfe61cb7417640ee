FROM debian:12 AS parent
ONBUILD ENV V=child
ONBUILD RUN echo $V
FROM parent AS child
RUN true
FROM child
RUN last
