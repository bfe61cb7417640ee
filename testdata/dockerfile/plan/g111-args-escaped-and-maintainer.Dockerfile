FROM scratch
MAINTAINER Some One <a@b>
CMD ["x"]
