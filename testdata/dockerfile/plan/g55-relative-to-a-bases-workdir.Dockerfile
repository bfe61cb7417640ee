FROM rich
COPY a b/
