FROM a
CMD echo a   b
CMD ["a"]
CMD
ENTRYPOINT exec x
ENTRYPOINT []
RUN
