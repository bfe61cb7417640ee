# escape=`
FROM debian:12
ENV A=b
COPY a`$A c:\$A
RUN one `
  two
