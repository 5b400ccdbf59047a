#: title = "a client that never closes what its server closed"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 9
#: also = ["fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: destination = "10.77.0.2:80"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=128)
while 1: l.accept()[0].close()'
listens $S 80
bg $C python3 -c '
import socket,time
kept=[]
while 1:
    s=socket.create_connection(("10.77.0.2",80)); kept.append(s); time.sleep(0.02)'
sleep 4
ready
