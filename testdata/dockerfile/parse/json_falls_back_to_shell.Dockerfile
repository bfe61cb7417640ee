FROM a
RUN ['a', 'b']
RUN ["a", "b"
RUN ["a", "b"] c
CMD ["C:\x"]
CMD ["C:\\x"]
ENTRYPOINT []
CMD
COPY ['a', 'b']
VOLUME ["/a" /b
