FROM debian:12 AS a
RUN a
FROM debian:12 AS b
RUN b
COPY --from=a /x /
#= --no-cache B
