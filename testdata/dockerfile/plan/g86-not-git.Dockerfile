FROM debian:12
ADD github.com/a/b.git https://example.com/a.git /x/
