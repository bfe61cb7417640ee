FROM scratch
ARG API_TOKEN
ENV db_password=x PUBLIC_KEY=y
