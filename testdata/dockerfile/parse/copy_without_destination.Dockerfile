FROM a
COPY
COPY a
ADD ["a"]
ADD []
