FROM a
RUN echo hi # x
ENV a=b # c=d
COPY a # /b
