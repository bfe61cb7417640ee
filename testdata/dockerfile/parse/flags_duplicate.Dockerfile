FROM a
COPY --chown=1 --chown=2 a b
RUN --network=none --network=host x
RUN --mount=type=cache,target=/a --mount=type=tmpfs,target=/b --device=c --device=d x
COPY --exclude=a --exclude=b c d
COPY --link --link a b
