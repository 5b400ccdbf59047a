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
printf 'defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 5s
listen f\n bind 127.0.0.1:8081\n server s 10.77.0.2:9000\n' >"$W/c"
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",9000),backlog=128); k=[]
while 1:
    c=l.accept()[0]; c.recv(99); c.sendall(b"answer"); k.append(c)'
listens $S 9000
bg $C haproxy -db -f "$W/c"
listens $C 8081
bg $C python3 -c '
import socket,random,time
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"request"); s.recv(99); time.sleep(random.random()/9); s.close(); time.sleep(random.random()/9)'
sleep 7
ready
