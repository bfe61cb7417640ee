FROM debian:12 AS tools
RUN tools
FROM debian:12
ARG T=tools
WORKDIR /w
RUN --mount=from=0,source=bin,target=/t1 --mount=from=$T,target=rel,rw --mount=target=. make
