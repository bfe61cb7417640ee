# check=error=true
FROM scratch AS Big
CMD x
