FROM a
RUN --mount="type=secret,id=a b" --mount=type=cache,target='/c d' x
RUN --mount=type=cache,target=/a\ b y
COPY --chown="a:b" "c" d
