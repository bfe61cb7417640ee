#syntax = docker/dockerfile:1.7 --opt x
# ESCAPE=`
#	check=skip=StageNameCasing;error=true
FROM a
