FROM nowhere/at-all AS Base
LABEL a b
