#: title = "12 % of the packets from one destination are lost"
#: kind = "K3"
#: needs = ["python3", "nft"]
#: seconds = 14
#: look_from = "s"
#: also = ["dead-peer-retransmit"]
#: [[expect]]
#: rule = ["lossy-destination"]
pair; filter $C "tcp sport 80 numgen random mod 100 < 12"
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80))
def h(s):
    try:
        while 1: s.sendall(b"x"*65536)
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
for i in 1 2 3 4; do bg $C python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",80))
while s.recv(1<<20): pass'; done
sleep 6
ready
