#= --target 0 --build-context later=../later
FROM debian:12
COPY --from=later / /
FROM debian:12 AS later
