FROM a
LABEL com.example.a="x y" "b c"=d
LABEL k v
LABEL
LABEL a
LABEL a=1 b
