FROM debian:12
ADD --unpack --chmod=755 https://me:secret@example.com/dir/?a=b /x/
ADD https://example.com /y
