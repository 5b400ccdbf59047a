#: title = "a device forgot idle connections; new ones to the same address and port work"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 26
#: [[expect]]
#: rule = ["dead-peer-retransmit", "path-idle-limit"]
#: destination = "10.77.0.2:6379"
#: cause = "path-forgot-flow"
#: never_cause = ["host-down"]
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",6379),backlog=100)
def h(s):
    try:
        while s.recv(100): s.sendall(b"x")
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 6379

bg $C python3 -c '
import socket,time,threading,sys
old=[socket.create_connection(("10.77.0.2",6379)) for i in range(4)]
for s in old: s.sendall(b"a"); s.recv(1)
open(sys.argv[1],"w").write(",".join(str(s.getsockname()[1]) for s in old)); time.sleep(6)
for s in old: s.sendall(b"b")
def w():
    n=socket.create_connection(("10.77.0.2",6379))
    while 1: n.sendall(b"c"); n.recv(1); time.sleep(0.1)
for i in range(4): threading.Thread(target=w,daemon=True).start()
time.sleep(60)' $W/ports
sleep 1.5; filter $S "tcp sport { $(cat $W/ports) }"
sleep 16
ready
