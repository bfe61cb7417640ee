FROM debian:12
ENV EXT=go
COPY *.$EXT src/[a-c]? /x/
