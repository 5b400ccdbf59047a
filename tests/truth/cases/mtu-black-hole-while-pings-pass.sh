#: title = "websocket-like clients go on pinging while each large answer to them is lost: the path has a smaller MTU"
#: kind = "K7"
#: needs = ["python3", "nft"]
#: seconds = 20
#: look_from = "s"
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["mtu-black-hole"]
#: comm = "python3"
#: cause = "mtu-black-hole"
#: said = ["tcp_mtu_probing"]
#: never_cause = ["host-down"]
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80))
def h(s):
    while 1:
        m=s.recv(4)
        if not m: break
        s.sendall(b"x"*60000 if b"get" in m else b"pong")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80; filter $C "meta length > 1200"
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",80)) for i in range(4)]
for i in range(8):
    for s in k: s.sendall(b"ping"); s.recv(9)
    time.sleep(.1)
for s in k: s.sendall(b"get!")
while 1:
    for s in k: s.sendall(b"ping")
    time.sleep(.5)'
sleep 10
ready
