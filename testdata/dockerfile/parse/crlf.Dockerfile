# escape=`
FROM a
# note
RUN a `
  b

ENV x=1
CMD ["c"]
