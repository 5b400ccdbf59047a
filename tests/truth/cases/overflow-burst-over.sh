#: title = "an accept queue overflowed in a burst some seconds ago"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 16
#: look_from = "s"
#: [[expect]]
#: rule = ["listener-drops-since-open", "accept-queue-overflow"]
#: listener = "10.77.0.2:80"
#: severity_at_most = "info"
pair
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",80),backlog=16); k=[]
time.sleep(3)
while 1: k.append(l.accept()[0])'
listens $S 80
bg $C python3 -c '
import socket,threading,time
def w(): k.append(socket.create_connection(("10.77.0.2",80)))
k=[]; [threading.Thread(target=w,daemon=True).start() for i in range(120)]
time.sleep(40)'
sleep 11
ready
