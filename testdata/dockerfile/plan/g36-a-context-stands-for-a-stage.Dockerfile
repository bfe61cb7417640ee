#= --build-context tools=../tools
FROM missing:1 AS Tools
RUN never
COPY --from=alsomissing / /
FROM debian:12
COPY --from=tools bin /bin
COPY --from=0 lib /lib
