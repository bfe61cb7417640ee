from a
Run b
rUN c
cmd d
