FROM debian:12
COPY --chown=7:8 --chmod=750 a /new/deep/a
