FROM scratch
COPY secret.key ./build/x /
#= --ignore *.key --ignore build
