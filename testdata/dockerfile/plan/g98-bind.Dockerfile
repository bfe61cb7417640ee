FROM debian:12
ARG F=go.mod
RUN --mount=type=bind,source=$F,target=/$F --mount=target=/ctx,rw true
