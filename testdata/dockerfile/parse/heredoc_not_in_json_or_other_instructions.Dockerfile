FROM a
RUN ["cat", "<<EOF"]
CMD cat <<EOF
hello
EOF
