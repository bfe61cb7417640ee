FROM debian:12 AS seed
FROM debian:12
WORKDIR /w
RUN --mount=type=cache,target=/root/.cache/ --mount=type=cache,target=rel,id=go,sharing=locked,uid=1,gid=2,mode=700 \
    --mount=type=cache,from=seed,source=/etc,target=/seeded,ro true
#= --build-arg BUILDKIT_CACHE_MOUNT_NS=ns
