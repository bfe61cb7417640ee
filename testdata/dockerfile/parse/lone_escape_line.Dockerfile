FROM a
\
RUN b
\
  
