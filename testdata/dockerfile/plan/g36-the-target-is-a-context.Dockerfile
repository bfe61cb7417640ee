#= --target app --build-context app=docker-image://rich
FROM missing AS app
CMD never
FROM app
