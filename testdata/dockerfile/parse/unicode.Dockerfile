FROM a
LABEL größe="ü ☺"
RUN echo "日本語" --flag
COPY --chown=jürgen a b
