FROM debian:12 AS from
FROM debian:12
COPY a /a
COPY --from=from /b /b
COPY --chown=1 c /c
