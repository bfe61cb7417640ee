FROM a
RUN --network=none python3 <<EOF
print(1)
EOF
RUN cat <<A <<-B | sh -x
a
A
	b
	B
RUN 3<<EOF cat <&3
x
EOF
RUN cat << EOF
blank
EOF
