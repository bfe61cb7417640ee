from debian:12 as a
run true
RUN false
cmd ["x"]
