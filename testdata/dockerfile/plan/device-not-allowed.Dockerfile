#= --allow device=vendor.com/gpu=1 --allow device=vendor.com/card=2,alias=any.com/card
FROM debian:12
RUN --device=vendor.com/gpu=1 true
RUN --device=vendor.com/card=2 true
