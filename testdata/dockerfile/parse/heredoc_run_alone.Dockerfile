FROM a
RUN <<EOF
apt-get update
apt-get install -y x
EOF
RUN <<EOF
#!/usr/bin/env python3
print("$hi")
EOF
CMD x
