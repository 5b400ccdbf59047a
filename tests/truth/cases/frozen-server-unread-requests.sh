#: title = "a paused container has accepted connections with requests"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 19
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "python3"
#: cause = "frozen"
#: severity_at_least = "high"
#: said = ["unpause"]
#: never_said = ["event loop"]
one; R=$(awk '$3=="cgroup2"{print $2;exit}' /proc/mounts); G=$R/$N; mkdir $G
cleanup() { echo 0 >$G/cgroup.freeze; for _ in 1 2 3 4 5 6 7 8 9 10; do rmdir $G 2>/dev/null && break; sleep 0.2; done; }
bg $C python3 -c '
import selectors, socket
l=socket.create_server(("127.0.0.1",9000)); l.setblocking(False)
q=selectors.DefaultSelector(); q.register(l, selectors.EVENT_READ)
while True:
    for key, _ in q.select():
        if key.fileobj is l:
            s,_=l.accept(); s.setblocking(False); q.register(s, selectors.EVENT_READ)
        else:
            key.fileobj.send(key.fileobj.recv(100))'
listens $C 9000; P=$(ip netns pids $C | head -1)
bg $C python3 -c '
import os,socket,sys,time
w=sys.argv[1]
k=[socket.create_connection(("127.0.0.1",9000)) for i in range(3)]
for s in k: s.sendall(b"one"); s.recv(10)
open(w+"/served","w")
while not os.path.exists(w+"/frozen"): time.sleep(0.05)
for s in k: s.sendall(b"two")
time.sleep(60)' "$W"
for _ in $(seq 100); do [ -e "$W/served" ] && break; sleep 0.1; done; echo $P >$G/cgroup.procs; echo 1 >$G/cgroup.freeze; touch "$W/frozen"
sleep 12
ready
