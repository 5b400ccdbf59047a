#: title = "one curl in many waits for a lost SYN while a pool to the same port works"
#: kind = "K4"
#: needs = ["curl", "python3", "iptables"]
#: seconds = 12
#: healthy = true
#: doctor = [[], ["--once"]]
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80),backlog=99)
def h(s):
    try:
        while s.recv(99): s.sendall(b"x")
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",80)) for i in range(30)]
while 1:
    for s in k: s.sendall(b"q"); s.recv(9)
    time.sleep(.2)'
sleep .5
ip netns exec $S iptables -A INPUT -p tcp --dport 80 --syn -m limit --limit 1/min --limit-burst 1 -j ACCEPT
ip netns exec $S iptables -A INPUT -p tcp --dport 80 --syn -m quota --quota 260 -j DROP
for i in 1 2; do bg $C curl -s -o /dev/null -m 30 http://10.77.0.2/; done
sleep 3.2
ready
