#: title = "a router fails over: for three seconds no SYN arrives, and connects to a port that just answered wait so long"
#: kind = "K4"
#: needs = ["python3", "iptables"]
#: seconds = 9
#: doctor = [["--once"]]
#: healthy = true
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",5432),backlog=99)
def h(s):
    while s.recv(99): s.sendall(b"x")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 5432
bg $C python3 -c '
import socket,threading,time
k=[socket.create_connection(("10.77.0.2",5432)) for i in range(5)]
time.sleep(1.5)
def w(): socket.create_connection(("10.77.0.2",5432)).recv(9)
for i in range(6): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1; filter $S "tcp dport 5432 tcp flags & (syn|ack) == syn"
for _ in $(seq 60); do
    [ "$(ip netns exec $C ss -Htno state syn-sent | grep -c ',2)')" = 6 ] && break
    sleep 0.1
done
ready
