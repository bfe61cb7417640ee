#= --ignore secret
FROM debian:12 AS from
FROM debian:12
COPY --from=from /secret /s
COPY dir /d
