#: title = "haproxy passes the end of its clients on (half close) and waits; its backend answers and never closes"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 14
#: also = ["fin-wait2-held", "fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: listener = ":9000"
#: severity_at_least = "warning"
#: never_cause = ["passed-on"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "haproxy"
#: listener = ":8081"
#: cause = "passed-on"
#: said = ["waits for python3"]
#: never_said = ["does not close connections"]
one
bg $C python3 -c '
import socket
l=socket.create_server(("127.0.0.1",9000),backlog=128); k=[]
while 1:
    c=l.accept()[0]; c.recv(99); c.sendall(b"answer"); k.append(c)'
listens $C 9000
relay 127.0.0.1:9000
sleep 7
ready
