#: title = "one client of a busy web server left the network without a word"
#: kind = "K4"
#: needs = ["python3", "nft"]
#: seconds = 12
#: look_from = "s"
#: healthy = true
#: doctor = [[], ["--once"]]
pair; ip -n $C addr add 10.77.0.9/24 dev v${N}c
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80),backlog=99)
def h(s):
    try:
        while s.recv(100): s.sendall(b"r"*40)
    except OSError: pass
def push(s):
    import time
    try:
        while 1: s.sendall(b"tick"); time.sleep(.2)
    except OSError: pass
while 1:
    s,a=l.accept(); threading.Thread(target=push if a[0]=="10.77.0.9" else h,args=(s,),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,time,threading
def w(a):
    s=socket.create_connection(("10.77.0.2",80),source_address=(a,0))
    while 1:
        if a!="10.77.0.9": s.sendall(b"GET")
        s.recv(99); time.sleep(.1)
for a in ["10.77.0.1"]*8+["10.77.0.9"]: threading.Thread(target=w,args=(a,),daemon=True).start()
time.sleep(60)'
sleep 1.5; filter $C "ip daddr 10.77.0.9"; sleep 6
ready
