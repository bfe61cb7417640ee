FROM debian:12
RUN --mount=type=secret,id=aws/key --mount=type=secret,id=tok,env=TOK --mount=type=secret,src=x,dst=/x,required,mode=0440,uid=5,env=X \
    --mount=type=ssh --mount=type=ssh,id=other,target=/a.sock,required=true true
