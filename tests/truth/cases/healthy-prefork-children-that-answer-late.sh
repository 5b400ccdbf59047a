#: title = "gunicorn's sync workers take longer than their impatient clients wait, and close a moment after them"
#: kind = "K6"
#: needs = ["gunicorn", "python3"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/app.py" <<'A'
import time
def app(e, start):
    time.sleep(3)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
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
while 1: threading.Thread(target=client).start(); time.sleep(0.13)'
sleep 5
ready
