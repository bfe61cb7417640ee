FROM debian:12
RUN one
ARG http_proxy
RUN two
#= --build-arg http_proxy=http://p:1 --build-arg No_Proxy=x
