#= --build-context app=docker-image://triggers --build-context tools=../tools
FROM app
