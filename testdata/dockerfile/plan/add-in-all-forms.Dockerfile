FROM debian:12
ADD ["a b", "/dst/"]
ADD --chown=1:2 a /b
ADD <<EOF /c
x
EOF
COPY --link=false a /d
