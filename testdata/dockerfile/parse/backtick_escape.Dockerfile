# escape=`
FROM a
COPY a c:\
RUN dir `
  c:\
ENV p=`"q r=s` t
