FROM debian:12
RUN --mount=type=ssh --mount=type=ssh,id=work,required,target=/work.sock x
ENV SSH_AUTH_SOCK=/own
RUN --mount=type=ssh,id=work y
