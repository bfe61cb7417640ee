FROM a
RUN["a"]
CMD#x
