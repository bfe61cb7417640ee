FORM a
FROM a
RUUN b
rn c
Copyy d e
BANANA
FROM: x
run
