from debian:12
cmd serve
entrypoint serve
