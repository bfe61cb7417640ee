FROM scratch
ENV a=1 c=3
ENV a=2 b=$a ${c}d="x $a"
LABEL "com.example.a b"="$b" v='$a'
