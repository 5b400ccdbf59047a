#: title = "HAProxy at the maxconn of its frontend: it stops accepting on purpose"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "haproxy"
#: cause = "accept-paused"
#: said = ["maxconn"]
one
printf 'global\n maxconn 50\ndefaults\n mode http\n timeout client 60s\n timeout server 60s\n timeout connect 5s
frontend f\n bind 127.0.0.1:8081\n maxconn 3\n backlog 64\n default_backend b\nbackend b\n server s 127.0.0.1:9 \n' >"$W/c"
bg $C haproxy -db -f "$W/c"
listens $C 8081
bg $C python3 -c '
import socket,time
k=[]
for i in range(8):
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"GET / HTTP/1.1\r\n"); k.append(s); time.sleep(0.02)
time.sleep(60)'
sleep 4
ready
