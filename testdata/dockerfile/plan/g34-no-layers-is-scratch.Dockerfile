FROM no-layers
COPY a /a
