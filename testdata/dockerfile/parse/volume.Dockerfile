FROM a
VOLUME /a /b
VOLUME ["/a"]
VOLUME
VOLUME []
VOLUME ["/a", " "]
