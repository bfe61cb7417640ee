FROM debian:12
ADD --checksum=0123abc https://github.com/a/b.git https://example.com/c /x/
