#: title = "a relay reads no faster than the client behind it, which reads a little every 3 s"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 30
#: doctor = [[], ["--once"]]
#: times = 2
#: healthy = true
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80))
def send(s):
    try:
        while 1: s.sendall(b"x"*65536)
    except OSError: pass
while 1: threading.Thread(target=send,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,threading
l=socket.create_server(("127.0.0.1",8080))
def relay(a):
    b=socket.create_connection(("10.77.0.2",80))
    while 1: a.sendall(b.recv(16384))
while 1: threading.Thread(target=relay,args=(l.accept()[0],),daemon=True).start()'
listens $C 8080
bg $C python3 -c '
import socket,time
s=socket.create_connection(("127.0.0.1",8080))
while 1: s.recv(20000); time.sleep(3)'
sleep 16
ready
