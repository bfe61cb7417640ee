FROM debian:12
COPY --chmod=4755 --chown=root:mail a /bin/a
COPY --chmod=u+s,g+s,+t b /bin/b
