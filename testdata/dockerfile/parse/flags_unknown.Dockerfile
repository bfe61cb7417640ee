FROM a
RUN --mont=type=cache x
COPY --form=b c d
COPY --zzzzzz c d
ENV --x a=b
WORKDIR --x /a
CMD --x a
ADD --from=b c d
VOLUME --x /a
