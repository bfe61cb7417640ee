FROM scratch AS a
COPY a /
FROM scratch AS b
COPY b /
#= --target 0
