ARG X
FROM $X AS a
FROM no.such/image:1 AS b
RUN --mount=type=nonsense x
