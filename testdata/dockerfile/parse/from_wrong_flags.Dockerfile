FROM --platfrm=linux/amd64 a
FROM --platform a
FROM --platform=x --platform=y a
FROM --from=x a
FROM --Platform=x a
