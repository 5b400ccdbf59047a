#: title = "the backend died without a FIN; the client times out after 5 s and retries"
#: kind = "K3"
#: needs = ["python3", "nft"]
#: seconds = 60
#: times = 6
#: also = ["fin-wait1-stuck"]
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup", "dead-peer-retransmit"]
#: destination = "10.77.0.2:80"
#: severity_at_least = "high"
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80),backlog=100)
def h(s):
    try:
        while s.recv(100): s.sendall(b"x")
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80

bg $C python3 -c '
import socket,time,threading
def w():
    while 1:
        try:
            s=socket.create_connection(("10.77.0.2",80),timeout=1); s.settimeout(5)
            while 1: s.sendall(b"q"); s.recv(1); time.sleep(0.2)
        except OSError: s.close()
[threading.Thread(target=w,daemon=True).start() for i in range(8)]
time.sleep(200)'
sleep 2; filter $S "tcp dport 80"; sleep 7
ready
