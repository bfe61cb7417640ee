FROM debian:12
ENV X=y
COPY ["a $X", "b", "/c d/"]
