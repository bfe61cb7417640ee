FROM debian:12
ENV NAME=x
WORKDIR /$NMAE
# check=skip=UndefinedVar
WORKDIR /$OTHER
USER ${THIRD:-ok}
USER ${UNSET}a
