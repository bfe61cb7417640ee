FROM a
ENV
ENV a
ENV a=1 b
ENV =1
ENV a=1 "b c"
