FROM debian:12
# check=StageNameCasing
RUN x
