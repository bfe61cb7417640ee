FROM scratch
CMD ["a"]
ENTRYPOINT ["b"]
CMD ["c"]
ENTRYPOINT d $HOME
