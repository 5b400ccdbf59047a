#: title = "150 idle subscribers of redis with tcp-keepalive 1 over a path of 300 ms: at any moment dozens of probes are under way, all are answered"
#: kind = "K2"
#: needs = ["redis-server", "python3"]
#: seconds = 20
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
wire 150 0 0
bg $S redis-server --bind 10.77.0.2 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W" --tcp-keepalive 1
listens $S 6379
bg $C python3 -c '
import socket,time
k=[]
for i in range(150):
    s=socket.socket(); s.setsockopt(1,9,1)
    for o,v in ((4,2),(5,1),(6,5)): s.setsockopt(6,o,v)
    s.setblocking(False)
    try: s.connect(("10.77.0.2",6379))
    except BlockingIOError: pass
    k.append(s); time.sleep(0.01)
time.sleep(1)
for s in k: s.sendall(b"SUBSCRIBE news\r\n"); time.sleep(0.017)
time.sleep(600)'
sleep 14
ready
