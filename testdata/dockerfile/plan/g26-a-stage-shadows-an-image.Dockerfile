FROM scratch AS debian
COPY a /a
FROM debian
COPY b /b
