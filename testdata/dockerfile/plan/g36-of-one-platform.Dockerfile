#= --build-context src::linux/arm64=docker-image://arm --build-context src=docker-image://debian:12
FROM --platform=linux/arm64 src AS one
FROM src
COPY --from=one / /one
