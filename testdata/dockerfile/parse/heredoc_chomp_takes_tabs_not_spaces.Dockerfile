FROM a
RUN <<-EOF
		tabs
 	space first
    spaces
	EOF
RUN <<-EOF
  EOF
	EOF
