FROM debian:12
SHELL ["/bin/bash", "-c"]
RUN one
CMD two
HEALTHCHECK CMD three
