#: title = "clients wait for 0.3 s, close, and the answer comes after that: no idle limit, no restart, no NAT"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 7
#: also = ["abort-storm", "time-wait-client-churn", "no-answer"]
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "late-answer"
#: never_said = ["keep-alive timeout", "was restarted"]
#: severity_at_most = "info"
pair
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",8080),backlog=128)
def h(s):
    try: s.recv(99); time.sleep(.6); s.sendall(b"late"); s.close()
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 8080
for i in 1 2 3 4; do bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"ask"); time.sleep(.3); s.close()'; done
sleep 3
ready
