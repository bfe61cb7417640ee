FROM a
COPY --from x y
COPY --link= x y
COPY --exclude x y
HEALTHCHECK --interval CMD x
COPY --from= x y
