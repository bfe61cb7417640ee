# check=error=true
FROM debian:12 AS Base
