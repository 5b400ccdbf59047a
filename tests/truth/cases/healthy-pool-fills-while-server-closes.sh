#: title = "a pool of 10 fills up while its server closes each connection at once"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 9
#: times = 2
#: healthy = true
pair; ulimit -n 256
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=50)
while 1:
    c=l.accept()[0]; c.recv(100); c.sendall(b"ok"); c.close()'
listens $S 80
bg $C python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"q"); s.recv(2); k.append(s)
    if len(k)>10: k.pop(0).close()
    time.sleep(.4)'
sleep 3
ready
