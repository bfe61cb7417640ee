FROM debian:12
ENV WHO=you
RUN cat <<A >/a && cat <<'B' >/b
hello $WHO
A
bye $WHO
B
