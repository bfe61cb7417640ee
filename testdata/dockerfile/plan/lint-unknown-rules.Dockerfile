# check=skip=StageNameCaseing,JSONArgs;experimental=Elephants
FROM debian:12 AS Base
# check=skip=UndefindVar
LABEL a=$X
