FROM debian:12
ARG A=1
COPY --chmod=x a b
