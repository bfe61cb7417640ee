FROM a
RUN cat <<A \
  && cat <<B
a \
A
# b
B
CMD x
