FROM debian:12
# check=skip=MultipleInstructionsDisallowed
CMD ["a"]
CMD ["b"]
ENTRYPOINT ["c"]
ENTRYPOINT ["d"]
