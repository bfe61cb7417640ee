FROM a
RUN <<EOF
echo a
EOF
CMD x
