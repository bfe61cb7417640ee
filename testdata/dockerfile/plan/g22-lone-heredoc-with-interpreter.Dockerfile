FROM debian:12
RUN <<-"PY"
	#!/usr/bin/env python3
	print("hi")
	PY
