FROM rich AS a
ENTRYPOINT ["x"]
FROM scratch AS b
CMD ["mine"]
ENTRYPOINT ["y"]
FROM b
ENTRYPOINT ["z"]
#= --target a
