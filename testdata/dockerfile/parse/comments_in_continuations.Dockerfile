FROM a
RUN one \
# gone
    # gone too
    && two \
  && three
CMD x
