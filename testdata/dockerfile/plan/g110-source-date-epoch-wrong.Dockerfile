FROM scratch
#= --build-arg SOURCE_DATE_EPOCH=today
