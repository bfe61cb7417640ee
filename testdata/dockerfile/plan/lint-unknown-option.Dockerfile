# check=skp=all
FROM debian:12
