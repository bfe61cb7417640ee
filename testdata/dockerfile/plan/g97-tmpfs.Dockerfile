FROM debian:12
RUN --mount=type=tmpfs,target=/t,size=64m --mount=type=tmpfs,dst=u true
