FROM a
SHELL ["powershell", "-command"]
SHELL powershell -command
SHELL
SHELL []
