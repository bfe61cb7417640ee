FROM scratch AS context
FROM debian:12 AS a
RUN first
FROM debian:12 AS A
RUN second
FROM a
