#: title = "backlog 5, and the program sleeps between two accepts: clients are dropped"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["accept-queue-stalled", "listener-drops-since-open", "syn-queue-pressure"]
#: [[expect]]
#: rule = ["accept-queue-overflow"]
#: comm = "python3"
#: listener = "10.77.0.2:81"
#: cause = "accepts-too-slow"
#: severity_at_least = "high"
pair
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",81),backlog=5)
while 1:
    c,a=l.accept(); time.sleep(0.4); c.sendall(b"x"); c.close()'
listens $S 81
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: s=socket.create_connection(("10.77.0.2",81),20); s.recv(1); s.close()
        except OSError: pass
[threading.Thread(target=w,daemon=True).start() for i in range(24)]
time.sleep(60)'
sleep 5
ready
