FROM debian:12
COPY --link --chown=1 a /a
COPY --link --chmod=755 --chown=app b /b
ADD --link c /c
FROM scratch
COPY --link a /a
#= --target 0
