# Grьяe, fine in a comment
FROM a
RUN echo €ю b
COPY <<EOF /x
А
EOF
CMD ok
