FROM debian:12 AS own
SHELL ["/bin/bash", "-c"]
CMD serve
FROM rich
ENTRYPOINT serve
