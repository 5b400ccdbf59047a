#: title = "the host of an idle pool loses its power: nothing is sent, and keepalive probes have no answer"
#: kind = "K7"
#: needs = ["/usr/bin/python3", "nft"]
#: seconds = 9
#: look_from = "c"
#: [[expect]]
#: rule = ["keepalive-unanswered"]
#: cause = "peer-gone"
#: severity_at_least = "warning"
#: [expect.numbers]
#: connections = [6, 6]
pair
bg $S python3 -c '
import socket
l = socket.create_server(("10.77.0.2", 5432)); held = []
while 1: held.append(l.accept()[0])'
listens $S 5432
bg $C python3 -c '
import socket, time
pool = [socket.create_connection(("10.77.0.2", 5432)) for _ in range(6)]
for s in pool:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 60)):
        s.setsockopt(socket.IPPROTO_TCP, name, value)
time.sleep(900)'
sleep 1
filter $S "ip saddr 10.77.0.1"
sleep 4
ready
