#: title = "haproxy passes the end of its clients on to a backend on another host that never closes; seen from the proxy alone"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 14
#: also = ["fin-wait2-held", "fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "haproxy"
#: cause = "passed-on"
#: said = ["waits for 10.77.0.2:9000"]
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",9000),backlog=128); k=[]
while 1:
    c=l.accept()[0]; c.recv(99); c.sendall(b"answer"); k.append(c)'
listens $S 9000
relay 10.77.0.2:9000
sleep 7
ready
