FROM arm
RUN true
