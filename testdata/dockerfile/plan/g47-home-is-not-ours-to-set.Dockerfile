FROM debian:12
USER app
RUN echo $HOME
