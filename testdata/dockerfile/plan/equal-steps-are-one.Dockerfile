FROM debian:12 AS a
RUN same
RUN a
FROM debian:12 AS b
RUN same
COPY --from=a /x /
