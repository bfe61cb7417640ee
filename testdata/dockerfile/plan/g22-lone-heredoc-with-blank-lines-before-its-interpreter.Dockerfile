FROM debian:12
RUN <<EOF

#!/usr/bin/perl
print "hi\n";
EOF
