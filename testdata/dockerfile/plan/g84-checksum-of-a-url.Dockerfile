FROM debian:12
ARG SUM=sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb
ADD --checksum=$SUM https://example.com/a /x
