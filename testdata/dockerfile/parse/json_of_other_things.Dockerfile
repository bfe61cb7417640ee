FROM a
RUN ["a", 1]
COPY ["a", null]
VOLUME [{}]
HEALTHCHECK CMD [[]]
SHELL [true]
