#: title = "a server over its limit accepts and closes at once; each client meets that with its first request, and none used one twice"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 6
#: also = ["abort-storm", "time-wait-client-churn", "closed-without-answer"]
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "turned-away"
#: never_cause = ["used-after-close"]
#: never_said = ["pooled connection"]
#: severity_at_least = "high"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8080),backlog=128)
while 1: l.accept()[0].close()'
listens $S 8080
for i in 1 2 3 4; do bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); time.sleep(0.03)
    try: s.sendall(b"GET / HTTP/1.1\r\n\r\n"); s.recv(100)
    except OSError: pass
    s.close(); time.sleep(0.05)'; done
sleep 2
ready
