# check=error=maybe
FROM debian:12
