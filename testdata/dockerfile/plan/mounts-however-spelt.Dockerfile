# syntax=docker/dockerfile:1
FROM debian:12 AS seed
FROM debian:12
RUN --mount=type=bind,from=seed,src=/a,dst=/b,ro --mount=from=seed,source=/a,destination=/c,readwrite \
    --mount=target=/d,from=seed,readonly=false true
RUN --mount=type=cache,target=/s,sharing=shared --mount=type=cache,target=/p,sharing=private \
    --mount=type=cache,target=/q,readonly true
RUN --mount=type=secret,id=s,mode=0440,uid=5,gid=6 --mount=type=ssh,mode=0666,uid=5,gid=6 true
