FROM --platform=quux debian:12
