FROM a AS 1st
FROM a AS x/y
FROM a AS Größe
FROM a AS OK
