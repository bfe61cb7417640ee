FROM odd-history
RUN true
