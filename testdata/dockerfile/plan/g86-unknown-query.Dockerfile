FROM debian:12
ADD https://github.com/a/b.git?depth=1 /x
