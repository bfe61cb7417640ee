FROM a
COPY a b c/ /d/
COPY --from=base "a b" c
COPY	a	b
ADD https://example.com/x.tar.gz git@github.com:a/b.git#main:dir /z
