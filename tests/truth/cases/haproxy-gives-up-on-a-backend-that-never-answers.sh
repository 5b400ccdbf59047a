#: title = "the backend takes requests and answers none; haproxy resets what it gave up, and is not to blame"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 9
#: also = ["no-answer", "abort-storm", "time-wait-client-churn", "time-wait-server-churn"]
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "haproxy"
#: destination = "10.77.0.2:8080"
#: cause = "gave-up"
#: never_said = ["remove SO_LINGER"]
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8080),backlog=999); k=[]
while 1: k.append(l.accept()[0])'
listens $S 8080
printf 'defaults\n mode http\n timeout client 9s\n timeout server 1200\n timeout connect 5s
listen f\n bind 127.0.0.1:8081\n server s 10.77.0.2:8080\n' >"$W/c"
bg $C haproxy -db -f "$W/c"; listens $C 8081
for i in 1 2 3 4 5 6 7 8; do bg $C python3 -c '
import socket
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while s.recv(999): pass
    s.close()'; done
sleep 4
ready
