FROM debian:12
ARG FILE=an/archive.tar.gz EMPTY=
ENV A=${FILE#*a} B=${FILE##*a} C=${FILE%.*} D=${FILE%%.*} E=${FILE/a/o} F=${FILE//a/o}
ENV G=${NONE:+x} H=${FILE:+there} I=${EMPTY+set} J=${FILE?must} K=${FILE:?must}
ENV L=${NONE:-${EMPTY:-deep}} M=${EMPTY-kept} N=${NONE-${FILE}}
