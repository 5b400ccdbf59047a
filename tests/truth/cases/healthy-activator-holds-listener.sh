#: title = "socket activation: systemd-socket-activate holds a listener for a service that nobody has called yet"
#: kind = "K7"
#: needs = ["systemd-socket-activate"]
#: seconds = 7
#: healthy = true
#: doctor = [[], ["--once"]]
one
bg $C systemd-socket-activate -l 127.0.0.1:83 cat
listens $C 83; sleep 3.5
ready
