FROM debian:12
RUN true
ADD \
  https://example.com/a.tar.gz /x
