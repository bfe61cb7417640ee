FROM debian:12
RUN --mount=tipe=cache,target=/x true
