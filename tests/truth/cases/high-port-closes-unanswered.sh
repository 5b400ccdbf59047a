#: title = "a server on port 60051, above the ports of its clients, closes half of its connections without an answer"
#: kind = "K3"
#: needs = ["/usr/bin/python3"]
#: seconds = 7
#: look_from = "s"
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "python3"
#: listener = "10.77.0.2:60051"
#: severity_at_least = "warning"
pair
bg $S /usr/bin/python3 -c '
import socket,itertools
l=socket.create_server(("10.77.0.2",60051))
for n in itertools.count():
    s,_=l.accept(); s.recv(99)
    if n%2: s.sendall(b"x"*900)
    s.close()'
listens $S 60051
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",60051)); s.sendall(b"GET"); s.recv(999); s.close(); time.sleep(.04)'
sleep 1
ready
