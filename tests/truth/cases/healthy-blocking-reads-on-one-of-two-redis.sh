#: title = "five workers wait in BLPOP on the redis of the queue, beside a redis that caches and answers at once"
#: kind = "K7"
#: needs = ["redis-server", "python3"]
#: seconds = 20
#: healthy = true
pair; ip -n $S addr add 10.77.0.3/24 dev "v${N}s"
for a in 2 3; do bg $S redis-server --bind 10.77.0.$a --protected-mode no --save '' --dir "$W"; done
listens $S 6379; sleep 0.5
bg $C python3 -c '
import socket,threading,time
def o(a): return socket.create_connection(("10.77.0.%d"%a,6379))
def queue():
    while 1:
        s=o(3); s.sendall(b"BLPOP jobs 4\r\n"); s.recv(99)
        s.sendall(b"BLPOP jobs 0\r\n"); s.settimeout(6)
        try: s.recv(99)
        except OSError: s.close()
def cache():
    s=o(2)
    while 1: s.sendall(b"SET a b\r\n"); s.recv(99); time.sleep(.1)
for f in [queue]*5+[cache]*3: threading.Thread(target=f,daemon=True).start()
time.sleep(60)'
sleep 13
ready
