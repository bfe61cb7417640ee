FROM debian:12 AS a
ENV X=env
RUN one
ARG X=arg
RUN two $X
FROM a
RUN three
