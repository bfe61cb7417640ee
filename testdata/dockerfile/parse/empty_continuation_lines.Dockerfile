FROM a
RUN a \

  && b \
   
# c
  && d
CMD e \

