FROM a
COPY a <<EOF
x
EOF
ADD <<A <<B
1
A
2
B
CMD y
