FROM debian:12
env a b
LABEL c d e
ENV f=g
