ARG SUFFIX
FROM debian:12$SUFFIX
COPY --from=ri${CHO}ch / /x
