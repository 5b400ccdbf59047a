#: title = "clients half-closed and wait for an answer that takes 100 s"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 75
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ulimit -Sn 1024
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",9100),backlog=50)
def job(c):
    while c.recv(65536): pass
    time.sleep(100); c.sendall(b"done"); c.close()
while 1: threading.Thread(target=job,args=(l.accept()[0],)).start()'
listens $S 9100
bg $C python3 -c '
import socket
k=[socket.create_connection(("10.77.0.2",9100)) for i in range(14)]
for s in k: s.sendall(b"j"*10000); s.shutdown(1)
for s in k: s.recv(10)'
sleep 64
ready
