#= --allow device=vendor.com/gpu=* --allow device=vendor.com/card=2,alias=any.com/card --allow device=vendor.com/tun
FROM debian:12
RUN --device=vendor.com/gpu=all true
RUN --device=any.com/card,required true
RUN --device=name=vendor.com/tun,required=0 --device=vendor.com/tun=*,required true
