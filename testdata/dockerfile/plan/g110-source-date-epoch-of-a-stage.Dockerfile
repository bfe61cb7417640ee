FROM scratch AS base
FROM scratch
#= --build-arg SOURCE_DATE_EPOCH=base
