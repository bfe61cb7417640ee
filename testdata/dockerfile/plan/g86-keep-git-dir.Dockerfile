FROM debian:12
ADD --keep-git-dir=true https://github.com/a/b.git?branch=main&submodules=0#:sub /x
ADD ssh://git@host/c /y
