#: title = "one of two workers with a listener each (SO_REUSEPORT) waits for a lock; clients leave its queue, and the other accepts at once"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["reuseport-imbalance"]
#: [[expect]]
#: rule = ["close-wait-unaccepted"]
#: comm = "stuck"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "warning"
#: never_said = ["works ("]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "stuck"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "warning"
#: never_said = ["works ("]
pair
cat >"$W/w.py" <<'A'
import socket,sys,threading
open("/proc/self/comm","w").write(sys.argv[1])
l=socket.socket(); l.setsockopt(1,2,1); l.setsockopt(1,15,1); l.bind(("10.77.0.2",8000)); l.listen(128)
if sys.argv[1]=="stuck":
    s,_=l.accept(); threading.Event().wait()
while 1:
    s,_=l.accept(); s.recv(999); s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"); s.close()
A
bg $S python3 "$W/w.py" works; bg $S python3 "$W/w.py" stuck
listens $S 8000; sleep 0.7
bg $C python3 -c '
import socket,threading,time
def client():
    s=socket.create_connection(("10.77.0.2",8000)); s.settimeout(2)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try: s.recv(99)
    except OSError: pass
    s.close()
while 1: threading.Thread(target=client).start(); time.sleep(0.15)'
sleep 5
ready
