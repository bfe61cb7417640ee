FROM alpine
FROM alpine:3.20 AS base
from --platform=linux/arm64 base As Final
FROM $IMAGE AS a-b_c.d9
