# one
FROM a

# two
#   three  

# check=skip=X
RUN b
# four
#
# five
CMD c
# trailing
