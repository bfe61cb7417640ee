FROM scratch
COPY --from=nonesuch /x /
