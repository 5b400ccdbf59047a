#: title = "small answers pass on the same connections, full segments are lost"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 22
#: look_from = "s"
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["mtu-black-hole", "dead-peer-retransmit"]
#: said = ["tcp_mtu_probing"]
#: never_cause = ["host-down"]
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80))
def h(s):
    while 1:
        n=int(s.recv(16) or b"0")
        if not n: break
        s.sendall(b"x"*n)
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80; filter $C "meta length > 1200"
bg $C python3 -c '
import socket,time,threading
def w():
    s=socket.create_connection(("10.77.0.2",80))
    for i in range(10): s.sendall(b"100"); s.recv(100); time.sleep(0.1)
    s.sendall(b"300000"); n=0
    while n<300000: n+=len(s.recv(65536))
[threading.Thread(target=w,daemon=True).start() for i in range(4)]
time.sleep(100)'
sleep 12
ready
