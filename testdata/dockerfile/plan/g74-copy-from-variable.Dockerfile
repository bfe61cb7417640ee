ARG WHICH=a
FROM debian:12 AS a
RUN a
FROM debian:12 AS b
RUN b
FROM scratch
ARG HERE=b
COPY --from=${WHICH} /x /
COPY --from="$HERE" /y /
