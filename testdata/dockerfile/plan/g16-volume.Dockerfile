FROM scratch
ENV D=/data
VOLUME $D/a /b
VOLUME ["/c d"]
