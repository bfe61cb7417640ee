FROM a
RUN cat <<< word
RUN echo $((1<<2))
RUN echo "<<EOF"
RUN echo it's <<EOF
RUN echo \<<EOF
COPY x<<y z
