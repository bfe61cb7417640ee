from debian:12
run a
Run b
LABEL a=b
env x=y
