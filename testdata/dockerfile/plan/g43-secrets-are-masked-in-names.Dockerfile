FROM debian:12
ARG TOKEN=hush
ENV WHO=me
RUN login $TOKEN $WHO $UNKNOWN "${WHO}" '$WHO'
