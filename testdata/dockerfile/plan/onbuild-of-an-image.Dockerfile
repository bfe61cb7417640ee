FROM scratch AS tools
COPY t /t

FROM triggers AS app
RUN after
#= --build-arg VERSION=2
