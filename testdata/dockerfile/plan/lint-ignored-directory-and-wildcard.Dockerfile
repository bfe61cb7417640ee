#= --ignore *.log --ignore tmp
FROM debian:12
COPY ./tmp/deep/file /a
ADD app.log /b
COPY *.log /c/
COPY . /d
COPY --from=debian:12 /tmp /e
