FROM debian:12
ENV WHO=you
WORKDIR /etc
COPY --chmod=u+x --chown=7 file <<one <<"two" conf/
"$WHO" \$WHO
one
$WHO
two
