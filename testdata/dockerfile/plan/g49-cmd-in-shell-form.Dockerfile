FROM scratch
ENTRYPOINT ["e"]
CMD echo "$HOME"
