FROM debian:12
ENV A="${B:?must be set}"
