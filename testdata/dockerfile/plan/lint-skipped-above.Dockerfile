FROM debian:12 AS Base
# why not
# check=skip=WorkdirRelativePath,UndefinedVar
WORKDIR app/$X
WORKDIR /
# check=skip=UndefinedVar
LABEL a=$X
LABEL b=$X
