FROM a
ONBUILD RUN <<EOF
one
two
EOF
ONBUILD COPY <<-'X' /y
	tab
	X
CMD z
