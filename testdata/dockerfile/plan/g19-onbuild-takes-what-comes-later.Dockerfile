FROM scratch AS parent
ONBUILD COPY --from=later /x /
FROM parent
FROM scratch AS later
#= --target 1
