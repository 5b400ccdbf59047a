#: title = "gunicorn's sync workers wait for a lock that nobody releases, each with the unread body of a client that gave up"
#: kind = "K6"
#: needs = ["gunicorn", "python3"]
#: seconds = 12
#: look_from = "s"
#: also = ["accept-queue-stalled"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: cause = "reader-stuck"
#: severity_at_least = "warning"
#: severity_at_most = "high"
#: said = ["processes of gunicorn"]
#: [expect.numbers]
#: processes = [16, 32]
pair
cat >"$W/app.py" <<'A'
import fcntl
def app(e, start):
    with open(__file__) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S flock "$W/app.py" sleep 100
bg $S env -C "$W" gunicorn -w 32 -t 120 --preload -b 10.77.0.2:8000 app:app
listens $S 8000; sleep 3
bg $C python3 -c '
import socket,time,threading
def client():
    s=socket.create_connection(("10.77.0.2",8000)); s.settimeout(0.8)
    s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"+b"x"*20000)
    try: s.recv(9)
    except TimeoutError: pass
    s.close()
while 1: threading.Thread(target=client).start(); time.sleep(0.25)'
sleep 6
ready
