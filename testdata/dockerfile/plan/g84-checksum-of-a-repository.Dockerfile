FROM debian:12
ADD --checksum=0123ABC git@github.com:a/b.git#v1 /x
