#= --target a
FROM debian:12 AS a
FROM debian:12 AS B
WORKDIR rel
LABEL x=$Y
