FROM debian:12
ADD a.tar.gz dir /x/
ADD --unpack=false b.tar /x/
ADD --keep-git-dir=true c /c
