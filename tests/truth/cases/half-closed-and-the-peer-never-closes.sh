#: title = "a client reads each answer, shuts down its side and waits for the end, which its server never sends"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["fin-wait2-held"]
#: comm = "python3"
#: destination = "10.77.0.2:2000"
#: cause = "peer-never-closes"
#: severity_at_least = "warning"
#: severity_at_most = "warning"
#: said = ["10.77.0.2:2000 has not closed"]
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",2000),backlog=128); k=[]
while 1:
    c=l.accept()[0]; c.recv(9); c.sendall(b"answer"); k.append(c)'
listens $S 2000
bg $C python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.77.0.2",2000)); s.sendall(b"request"); s.recv(9); s.shutdown(1); k.append(s); time.sleep(.2)'
sleep 5
ready
