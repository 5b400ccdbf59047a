#: title = "the gateway is gone: no ARP answer, and connections to two networks beyond it wait"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 22
#: also = ["send-queue-stuck", "connect-failures"]
#: [[expect]]
#: rule = ["neighbour-failure"]
#: destination = "10.77.0.254:0"
#: severity_at_least = "high"
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "python3"
#: cause = "gateway-down"
#: never_cause = ["host-down", "mtu-black-hole"]
pair
ip -n $S addr add 10.78.0.2/32 dev lo; ip -n $S addr add 10.79.0.2/32 dev lo
ip -n $S addr add 10.77.0.254/24 dev "v${N}s"
ip -n $C route add 10.78.0.0/16 via 10.77.0.254; ip -n $C route add 10.79.0.0/16 via 10.77.0.254
bg $S python3 -c '
import socket,threading
l=socket.create_server(("0.0.0.0",80),backlog=100)
def h(s):
    try:
        while s.recv(100): s.sendall(b"x")
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,time
k=[socket.create_connection((a,80)) for a in ("10.78.0.2","10.79.0.2") for i in range(2)]
for s in k: s.sendall(b"a"); s.recv(1)
time.sleep(2)
for s in k: s.sendall(b"b")
time.sleep(90)'
sleep 1
ip -n $S link set "v${N}s" down; ip -n $C neigh flush dev "v${N}c"
sleep 12
ready
