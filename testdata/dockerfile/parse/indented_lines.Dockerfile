  FROM a
	# x
   	RUN b \
   c
 
    CMD d   
