#: title = "a job opened 9,000 connections and has ended: nobody opens any more"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 20
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=4096)
while 1:
    c,_=l.accept(); c.recv(1); c.close()'
listens $S 80
within $C python3 -c '
import socket,time
t=time.time()
for i in range(9000):
    socket.create_connection(("10.77.0.2",80)).close()
    d=t+i/900-time.time()
    if d>0: time.sleep(d)'
sleep 3
ready
