#: title = "a client keeps the descriptors of connections that its server resets"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: also = ["abort-storm", "reset-source"]
#: [[expect]]
#: rule = ["closed-socket-fd-leak"]
#: comm = "python3"
#: severity_at_least = "warning"
pair; ulimit -n 1024
bg $S python3 -c '
import socket,struct
l=socket.create_server(("10.77.0.2",5672),backlog=50)
while 1:
    c=l.accept()[0]; c.setsockopt(socket.SOL_SOCKET,socket.SO_LINGER,struct.pack("ii",1,0)); c.close()'
listens $S 5672
bg $C python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.77.0.2",5672)); k.append(s); time.sleep(.1)'
sleep 4
ready
