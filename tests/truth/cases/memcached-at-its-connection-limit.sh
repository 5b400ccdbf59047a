#: title = "memcached is at its connection limit and does not accept; its old connections are answered"
#: kind = "K2"
#: needs = ["memcached", "/usr/bin/python3"]
#: seconds = 20
#: look_from = "s"
#: also = ["accept-queue-overflow", "accept-queue-stalled", "listener-drops-since-open"]
#: [[expect]]
#: rule = ["fd-exhaustion"]
#: comm = "memcached"
#: severity_at_least = "warning"
pair
bg $S memcached -u nobody -l 10.77.0.2 -p 11211 -U 0 -t 2 -c 48 -o no_maxconns_fast
listens $S 11211
# The application: it takes a connection more for every job and never gives one back; ten of them still work.
cat >"$W/app.py" <<A
import socket, time
k = []
def one():
    s = socket.create_connection(("10.77.0.2", 11211), 2); s.settimeout(2); k.append(s)
    s.sendall(b"set a 0 0 2\r\nhi\r\n"); s.recv(100)
for i in range(200):
    try: one()
    except OSError: break
end = time.time() + 600
while time.time() < end:
    for s in k[:10]:
        try: s.sendall(b"get a\r\n"); s.recv(100)
        except OSError: pass
        time.sleep(0.05)
A
bg $C /usr/bin/python3 "$W/app.py"
sleep 5
# Other users of the cache: two tries a second, each waits three seconds for its answer.
cat >"$W/user.py" <<A
import socket, threading, time
def f():
    try:
        s = socket.create_connection(("10.77.0.2", 11211), 3); s.settimeout(3); s.sendall(b"get a\r\n"); s.recv(100); s.close()
    except OSError: pass
for i in range(1200):
    threading.Thread(target=f).start(); time.sleep(0.5)
A
bg $C /usr/bin/python3 "$W/user.py"
sleep 9
ready
