FROM debian:12 AS parent
ONBUILD RUN <<EOF
echo hi
EOF
FROM parent
