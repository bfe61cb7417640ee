FROM debian:12 AS a
FROM scratch
COPY --from=a --link --exclude=x --parents --chown=1:2 --chmod=600 b c /d/
ADD --chmod=0644 e /f
