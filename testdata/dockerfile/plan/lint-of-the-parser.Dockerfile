FROM debian:12
RUN one \

  two
# check=skip=NoEmptyContinuation
RUN three \

  four
