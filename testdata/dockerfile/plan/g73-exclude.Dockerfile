FROM debian:12
COPY --exclude=*.txt --exclude=**/$X dir /d/
