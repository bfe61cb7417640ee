FROM a
RUN --mount=type=cache,target=/a \
    --network=none \
    # between
    --security=insecure \
    make
COPY --chown=1\
:2 a b
