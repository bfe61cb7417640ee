{"syntax": "example.com/json:1", "stages": []}
