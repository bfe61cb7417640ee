FROM rich
LABEL a=file c="x y" a=again
LABEL d e f
#= --label c=line --label z=1
