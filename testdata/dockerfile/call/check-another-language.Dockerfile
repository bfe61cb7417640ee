# syntax=example.com/other:1
FRUM x
