FROM debian:12 AS unused
RUN --security=insecure nobody needs this stage
FROM debian:12
RUN one
RUN --network=host two
#= --allow security.insecure
