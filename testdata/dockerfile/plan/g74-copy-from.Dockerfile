FROM debian:12 AS a
RUN a
FROM scratch
COPY --from=0 /x /
COPY --from=a /y /
COPY --from=localhost:5000/team/app:1.0 /z /
COPY --from=scratch /w /
