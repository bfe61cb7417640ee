# a comment
# escape=`
FROM a
