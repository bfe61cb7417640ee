FROM debian:12 AS build
COPY . /src
RUN --mount=type=bind,target=/ctx,source=docs make
FROM scratch
COPY --from=build /src/out /out
COPY LICENSE /
#= --ignore .git
