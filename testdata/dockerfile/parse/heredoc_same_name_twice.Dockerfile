FROM a
COPY <<a <<a /x/
one
a
two
a
