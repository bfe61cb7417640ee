FROM debian:12
RUN --device=vendor.com/gpu=all true
