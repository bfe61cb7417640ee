FROM debian:12
COPY a /missing
COPY a /missing/
ADD a b /end
