# check=skip=JSONArgsRecommended,StageNameCasing
FROM scratch AS Big
CMD x
ENV a b
