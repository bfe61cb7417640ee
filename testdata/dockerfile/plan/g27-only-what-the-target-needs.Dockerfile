FROM missing-image AS broken
COPY --from=nowhere a b
FROM debian:12 AS base
RUN base
FROM base AS other
RUN other
FROM base AS wanted
RUN wanted
FROM broken
#= --target wanted
