FROM debian:12
# check=skip=NoEmptyContinuation
RUN a \

  b
RUN c \

  d
