#: title = "a client reads to EOF and forgets one connection a second"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 40
#: also = ["fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: destination = "10.77.0.2:8080"
#: cause = "leak"
#: severity_at_least = "warning"
pair; ulimit -n 1024
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8080),backlog=128)
while 1:
    c=l.accept()[0]; c.recv(100); c.sendall(b"x"*300); c.close()'
listens $S 8080
bg $C python3 -c '
import socket,time
kept=[]
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"q")
    while s.recv(1000): pass
    kept.append(s); time.sleep(1)'
sleep 30
ready
