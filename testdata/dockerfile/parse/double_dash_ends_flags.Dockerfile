FROM a
RUN -- --foo
RUN --network=none -- --network=host x
RUN --
CMD -- x
