#= --ignore tmp --ignore !tmp/keep
FROM debian:12
COPY tmp/a /a
