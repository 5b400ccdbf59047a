#: title = "a server that waits for its first client"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 4
#: healthy = true
one
bg $C python3 -m http.server -b 127.0.0.1 8000
listens $C 8000
ready
