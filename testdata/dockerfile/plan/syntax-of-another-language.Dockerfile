# syntax=example.com/my/frontend:1
modules:
  - x
