#= --build-context base=../base --build-context src=https://h/r.git#v1:d
FROM base AS made
RUN make
FROM src AS other
COPY --from=base a /
FROM other
COPY --from=src b /
COPY --from=made c /
