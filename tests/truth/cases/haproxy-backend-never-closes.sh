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
printf 'defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 5s
listen f\n bind 127.0.0.1:8081\n server s 127.0.0.1:9000\n' >"$W/c"
bg $C python3 -c '
import socket
l=socket.create_server(("127.0.0.1",9000),backlog=128); k=[]
while 1:
    c=l.accept()[0]; c.recv(99); c.sendall(b"answer"); k.append(c)'
listens $C 9000
bg $C haproxy -db -f "$W/c"
listens $C 8081
bg $C python3 -c '
import socket,random,time
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"request"); s.recv(99); time.sleep(random.random()/9); s.close(); time.sleep(random.random()/9)'
sleep 7
ready
