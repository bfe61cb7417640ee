FROM a
HEALTHCHECK --interval=5m --timeout=3s --start-period=0 --start-interval=1.5s --retries=3 CMD curl -f x || exit 1
HEALTHCHECK none
healthcheck cmd ["a"]
HEALTHCHECK --retries=0 \
  CMD a
