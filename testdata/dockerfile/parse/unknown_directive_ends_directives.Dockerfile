# syntax=docker/dockerfile:1
# unknown=x
# escape=`
FROM a
RUN a `
