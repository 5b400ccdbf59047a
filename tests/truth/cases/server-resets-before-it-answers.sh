#: title = "a server over its limit closes without reading the request: its clients get ECONNRESET instead of an answer"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 5
#: look_from = "c"
#: also = ["abort-storm", "time-wait-client-churn"]
#: [[expect]]
#: rule = ["reset-source"]
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket, time
l = socket.create_server(("10.77.0.2", 8080), backlog=128)
while 1:
    s = l.accept()[0]
    time.sleep(0.02)      # the request has come
    s.close()'
listens $S 8080
for i in 1 2 3 4; do bg $C python3 -c '
import socket, time
while 1:
    s = socket.create_connection(("10.77.0.2", 8080))
    s.sendall(b"GET / HTTP/1.1\r\n\r\n")
    try: s.recv(100)
    except ConnectionResetError: pass
    s.close(); time.sleep(0.05)'; done
sleep 2
ready
