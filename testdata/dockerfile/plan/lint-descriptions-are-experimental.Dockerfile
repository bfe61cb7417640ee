# a comment

# The version
ARG VERSION=1
FROM debian:12
