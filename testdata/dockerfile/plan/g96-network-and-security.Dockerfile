FROM debian:12
RUN one
RUN --network=host two
RUN --network=default --security=insecure three
#= --network none
#= --allow network.host
#= --allow security.insecure
