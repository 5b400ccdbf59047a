#: title = "a port check closes without reading the banner: one reset a second"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80)); k=[]
while 1: k.append(l.accept()[0]); k[-1].sendall(b"banner"); k=k[-3:]'
listens $S 80
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",80)); time.sleep(0.05); s.close(); time.sleep(0.9)'
sleep 3
ready
