#: title = "a gateway that answers, and a host behind it that is asked often"
#: kind = "K7"
#: healthy = true
#: needs = ["python3"]
#: seconds = 8
pair
ip -n $S addr add 10.78.0.2/32 dev lo
ip -n $S addr add 10.77.0.254/24 dev "v${N}s"
ip -n $C route add 10.78.0.0/16 via 10.77.0.254
bg $S python3 -c '
import socket,threading
l=socket.create_server(("0.0.0.0",80),backlog=100)
def h(s):
    while s.recv(100): s.sendall(b"x")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.78.0.2",80)) for i in range(4)]
while 1:
    for s in k: s.sendall(b"b"); s.recv(1)
    time.sleep(.05)'
sleep 2
ready
