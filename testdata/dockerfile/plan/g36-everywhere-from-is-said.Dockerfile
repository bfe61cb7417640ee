#= --build-context data=../data --build-context file=https://h/f.tar --build-context img=oci-layout://rich --build-context none=docker-image://scratch
ARG WHICH=data
FROM debian:12
ARG WHICH
COPY --from=$WHICH / /d
COPY --from=file f.tar /
COPY --from=img / /i
COPY --from=none / /n
RUN --mount=from=data,source=sub,target=/m --mount=type=cache,from=data,target=/c true
COPY own /
