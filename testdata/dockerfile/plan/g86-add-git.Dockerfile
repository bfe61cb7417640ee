FROM debian:12
ADD git@github.com:a/b.git /x
