FROM scratch
ARG A
#= --build-arg A=1 --build-arg B=2 --build-arg C=3 --build-arg HTTPS_PROXY=p --build-arg TARGETARCH=x
