# check=experimental=InvalidDefinitionDescription

# The version
ARG VERSION=1
# VERSION2 fine
ARG VERSION2
# something
ARG A=1 B=2
# builds
FROM debian:12 AS base
# no name, no rule
FROM base
# C is
# more of it
ARG C
