FROM scratch
USER 1000
WORKDIR /a/b
USER app:staff
WORKDIR c
