FROM ${NOTHING} AS broken
FROM scratch
