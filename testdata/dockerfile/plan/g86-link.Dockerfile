FROM scratch
ADD --link https://example.com/a /x
ADD --link --exclude=docs git://host/b.git /y/
