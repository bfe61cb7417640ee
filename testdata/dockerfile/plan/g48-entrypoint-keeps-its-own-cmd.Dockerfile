FROM scratch AS b
CMD ["mine"]
ENTRYPOINT ["y"]
