FROM a
ONBUILD RUN make
ONBUILD COPY --from=b --chown=1 \
  c d
onbuild env A=1
ONBUILD CMD ["x"]
