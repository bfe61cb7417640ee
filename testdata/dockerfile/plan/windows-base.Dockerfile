FROM windows
