#: title = "both gunicorn workers send a long answer to two clients that do not read it; other clients wait for accept()"
#: kind = "K2"
#: needs = ["gunicorn", "/usr/bin/python3", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: cause = "workers-busy"
#: said = ["held by a connection of 10.77.0.1 that does not read its answer"]
#: severity_at_least = "high"
pair
cat >"$W/app.py" <<A
def app(env, start):
    start("200 OK", []); return [b"x" * 40000000]
A
bg $S gunicorn --chdir "$W" -w 2 -b 10.77.0.2:8000 --timeout 900 app:app
listens $S 8000
bg $C python3 -c '
import socket, time
held = [socket.create_connection(("10.77.0.2", 8000)) for _ in range(2)]
for s in held: s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
time.sleep(900)'
sleep 1.5
for i in $(seq 5); do bg $C curl -s -m 300 -o /dev/null http://10.77.0.2:8000/; done
sleep 3
ready
