FROM a
ENV a=1 b="x y" c='z w' d=e\ f g=
ENV k v w
ENV k   "v  w"  x
ENV a=1 \
    b=2
ENV "a b"=c $k=v
ENV a=b=c
