from debian:12 AS a
from debian:12 as b
FROM debian:12 aS c
From debian:12 as d
