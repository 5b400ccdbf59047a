#: title = "a server reads each request, forgets the connection, and neither answers nor closes; clients give up after a second"
#: kind = "K7"
#: needs = ["python3", "curl"]
#: seconds = 14
#: look_from = "s"
#: also = ["close-wait-leak"]
#: [[expect]]
#: rule = ["answers-owed"]
#: comm = "python3"
#: listener = "0.0.0.0:7000"
#: severity_at_least = "high"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("",7000)); held=[]
while 1: c,_=l.accept(); c.recv(100); held.append(c)'
listens $S 7000
bg $C bash -c 'while :; do curl -s -m 1 http://10.77.0.2:7000/ & sleep 0.2; done'
sleep 9
ready
