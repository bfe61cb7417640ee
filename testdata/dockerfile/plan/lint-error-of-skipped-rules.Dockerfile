# check=skip=StageNameCasing,MaintainerDeprecated;error=true
FROM debian:12 AS Base
MAINTAINER me
