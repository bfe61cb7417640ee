// syntax=example.com/frontend:1 more
target "x" {}
