#: title = "a proxy gives each request up after 1.5 s, the backend needs 4 s and closes what was given up: nobody was answered"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: also = ["time-wait-client-churn", "reset-source"]
#: [[expect]]
#: rule = ["no-answer"]
#: destination = "10.77.0.2:8080"
#: never_said = ["it answered meanwhile"]
#: severity_at_most = "info"
#: numbers = { answers_here = [0, 0], given_up = [3, 99] }
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",8080),backlog=128)
def h(s):
    s.settimeout(4)
    try:
        s.recv(99)
        if s.recv(99)==b"": s.close()
    except TimeoutError: s.sendall(b"late")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"ask"); time.sleep(1.5); s.close()
for i in range(8): threading.Thread(target=w).start(); time.sleep(.2)'
sleep 4
ready
