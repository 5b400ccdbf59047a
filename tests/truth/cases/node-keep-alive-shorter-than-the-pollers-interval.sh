#: title = "node closes kept connections after two seconds, just when its forty pollers send again: resets"
#: kind = "K2"
#: needs = ["node", "/usr/bin/python3", "ethtool"]
#: seconds = 20
#: look_from = "s"
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "node"
#: listener = "10.77.0.2:3000"
#: cause = "closed-too-early"
# The path: C - R - S, R passes every frame on 40 ms later (80 ms there and back; the kernel here has no netem).
R=${N}r
netns $C; netns $S; netns $R
for x in c s; do
    [ $x = c ] && n=$C a=1 || { n=$S; a=2; }
    ip link add "v${N}$x" netns $n type veth peer name "r$x" netns $R
    ip netns exec $n ethtool -K "v${N}$x" tx off tso off gso off gro off >>"$W/out" 2>&1
    ip -n $n addr add 10.77.0.$a/24 dev "v${N}$x"; ip -n $n link set "v${N}$x" up; ip -n $R link set "r$x" up promisc on
done
cat >"$W/path.py" <<A
import socket, select, time, collections
k = []
for i in ("rc", "rs"):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3); s.bind((i, 3)); s.setblocking(False); k.append(s)
q = collections.deque()
while True:
    r, _, _ = select.select(k, [], [], max(0, q[0][0] - time.monotonic()) if q else None)
    for s in r:
        try:
            while True:
                b, a = s.recvfrom(70000)
                if a[2] != socket.PACKET_OUTGOING: q.append((time.monotonic() + 0.04, k[1 - k.index(s)], b))
        except BlockingIOError: pass
    while q and q[0][0] <= time.monotonic():
        _, s, b = q.popleft()
        try: s.send(b)
        except OSError: pass
A
bg $R /usr/bin/python3 "$W/path.py"
cat >"$W/api.js" <<A
const s = require('http').createServer((q, r) => { q.resume(); q.on('end', () => r.end('stored\n')); });
s.keepAliveTimeout = 1000; s.listen(3000, '10.77.0.2');
A
bg $S node "$W/api.js"
listens $S 3000
cat >"$W/agents.py" <<A
import requests, threading, time, random, socket
# How long the server keeps an idle connection (node adds a second of its own in some versions).
m = socket.create_connection(("10.77.0.2", 3000)); m.sendall(b"POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); m.recv(4096)
t = time.time()
while m.recv(4096): pass
T = time.time() - t; m.close()
ok = bad = 0
def f():
    global ok, bad
    time.sleep(random.random() * 2); s = requests.Session(); end = time.time() + 600
    while time.time() < end:
        try: s.post("http://10.77.0.2:3000/m", data=b"x" * 300, timeout=5); ok += 1
        except requests.RequestException: bad += 1
        time.sleep(T + random.uniform(-0.12, 0.02))
for i in range(40): threading.Thread(target=f, daemon=True).start()
for i in range(300): time.sleep(2); open("$W/count", "w").write("%d answered, %d failed\n" % (ok, bad))
A
bg $C /usr/bin/python3 "$W/agents.py"
sleep 14
ready
