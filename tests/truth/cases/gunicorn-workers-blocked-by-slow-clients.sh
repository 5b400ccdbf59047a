#: title = "gunicorn's two sync workers wait for the bodies of two slow clients; ten others wait for accept()"
#: kind = "K2"
#: needs = ["gunicorn", "python3"]
#: seconds = 14
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
cat >"$W/app.py" <<'A'
def app(e, start):
    e["wsgi.input"].read()
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S env -C "$W" gunicorn -w 2 -t 120 -b 10.77.0.2:8000 app:app
listens $S 8000; sleep 1.5
bg $C python3 -c '
import socket,time
slow=[]
for i in range(2):
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\nx"); slow.append(s)
time.sleep(1)
k=[]
for i in range(10):
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"); k.append(s)
while 1:
    for s in slow: s.sendall(b"x")
    time.sleep(1)'
sleep 5
ready
