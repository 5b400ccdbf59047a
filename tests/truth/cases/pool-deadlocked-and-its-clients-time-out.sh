#: title = "a server accepts, and its workers wait for each other; clients give up after 2 s, and nothing of their requests is ever read"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["close-wait-leak"]
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "python3"
#: cause = "threads-blocked"
#: severity_at_least = "high"
#: said = ["gave up"]
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",8000),backlog=50); c=[]
def accept():
    while 1: c.append(l.accept()[0])
threading.Thread(target=accept).start()
for _ in range(4): threading.Thread(target=threading.Event().wait).start()'
listens $S 8000
bg $C python3 -c '
import socket,threading
def client():
    while 1:
        s=socket.create_connection(("10.77.0.2",8000)); s.settimeout(2)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try: s.recv(99)
        except OSError: pass
        s.close()
for _ in range(4): threading.Thread(target=client).start()'
sleep 6
ready
