#: title = "gunicorn --backlog 4, one sync worker that takes three seconds for a request: clients are dropped"
#: kind = "K4"
#: needs = ["gunicorn", "python3"]
#: seconds = 14
#: look_from = "s"
#: also = ["accept-queue-stalled", "listener-drops-since-open", "syn-ack-unanswered", "syn-queue-pressure"]
#: [[expect]]
#: rule = ["accept-queue-overflow"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "high"
#: never_cause = ["stopped"]
pair
cat >"$W/app.py" <<'A'
import time
def app(e, start):
    time.sleep(3)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S env -C "$W" gunicorn -w 1 --backlog 4 -b 10.77.0.2:8000 app:app
listens $S 8000; sleep 1.5
bg $C python3 -c '
import socket,time,threading
def w():
    while 1:
        try:
            s=socket.create_connection(("10.77.0.2",8000),timeout=60); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); s.recv(999); s.close()
        except OSError: pass
for i in range(20): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 5
ready
