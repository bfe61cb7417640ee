FROM a
RUN <<EOF
# kept
  # kept too

EOF
