FROM scratch
#= --build-arg B=2 --strict-args true
