FROM debian:12
COPY --parents ./x/./y/z **/*.txt /d/
