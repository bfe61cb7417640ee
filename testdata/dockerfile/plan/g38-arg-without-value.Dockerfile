FROM debian:12
ARG X
ENV Y=${X-default} Z=$X
RUN echo $X
