FROM rich
EXPOSE 443 53/udp 80
VOLUME /data /var/log
