FROM debian:12
COPY --link --chmod=600 a /srv/
ADD --link=false b /srv/
