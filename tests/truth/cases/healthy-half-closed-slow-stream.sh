#: title = "half-closed requests are answered by a byte every 20 s"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 80
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ulimit -Sn 1024
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",7000),backlog=50)
def h(c):
    while c.recv(65536): pass
    for i in range(20): c.sendall(b"x"); time.sleep(20)
while 1: threading.Thread(target=h,args=(l.accept()[0],)).start()'
listens $S 7000
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",7000)) for i in range(14)]
for s in k: s.sendall(b"q"); s.shutdown(1)
while 1:
    for s in k: s.recv(1)'
sleep 70
ready
