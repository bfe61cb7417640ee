FROM debian:12 AS parent
ENV V=parent
ONBUILD RUN echo $V
ONBUILD COPY . /src
RUN true
