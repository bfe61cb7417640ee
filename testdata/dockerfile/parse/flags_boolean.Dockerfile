FROM a
COPY --link a b
COPY --link=true a b
COPY --link=FALSE --parents=True a b
COPY --link=maybe a b
ADD --keep-git-dir --unpack=false a b
