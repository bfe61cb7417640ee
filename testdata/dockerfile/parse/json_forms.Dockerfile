FROM a
RUN [ "a" , "b c\t\u00e9" ]
COPY ["a b", "/dst/"]
ADD --chown=1:2 ["x", "y", "/z"]
VOLUME ["/a", " /b c "]
ENTRYPOINT ["/bin/x"]
HEALTHCHECK CMD ["curl", "x"]
SHELL ["/bin/bash", "-c"]
RUN ["a", \
  "b"]
