FROM a
COPY --chmod=755 <<run.sh local.txt <<-other.sh /bin/
#!/bin/sh
run.sh
	x
other.sh
ADD <<empty /e
empty
