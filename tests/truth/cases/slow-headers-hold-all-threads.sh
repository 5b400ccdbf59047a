#: title = "one client sends a header line a second on thirty connections and holds the ten threads of a server; others wait"
#: kind = "K7"
#: needs = ["python3", "curl"]
#: seconds = 25
#: look_from = "s"
#: also = ["accept-queue-stalled", "recv-queue-stuck"]
#: [[expect]]
#: rule = ["slow-requests"]
#: listener = "10.77.0.2:80"
#: cause = "held-open"
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80),backlog=100)
def h():
    while 1:
        c=l.accept()[0]; d=b""
        while b"\r\n\r\n" not in d:
            x=c.recv(4096)
            if not x: break
            d+=x
        else: c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok")
        c.close()
t=[threading.Thread(target=h,daemon=True) for i in range(10)]
[x.start() for x in t]; [x.join() for x in t]'
listens $S 80
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",80)) for i in range(30)]
for s in k: s.sendall(b"GET / HTTP/1.1\r\n")
while 1:
    time.sleep(1)
    for n,s in enumerate(k): s.sendall(b"X-%d: y\r\n"%n)'
sleep 7
for i in 1 2 3 4; do bg $C curl -s -m 30 http://10.77.0.2/; done
sleep 3
ready
