FROM scratch AS first
COPY --from=second /x /
FROM scratch AS second
#= --target first
