#: title = "40 new idle connections a second to one destination, none is closed"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 14
#: [[expect]]
#: rule = ["connection-pool-growth"]
#: comm = "python3"
#: destination = "10.77.0.2:5432"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",5432),backlog=1000); k=[]
while 1: k.append(l.accept()[0])'
listens $S 5432; ulimit -n 20000
bg $C python3 -c '
import socket,time
k=[]
while len(k)<6000: k.append(socket.create_connection(("10.77.0.2",5432))); time.sleep(0.025 if len(k)>1500 else 0)
time.sleep(60)'
sleep 5
ready
