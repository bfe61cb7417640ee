FROM debian:12
COPY a .
WORKDIR /w
COPY a .
COPY a rel
COPY a rel/
COPY a ..
COPY a /abs/.
