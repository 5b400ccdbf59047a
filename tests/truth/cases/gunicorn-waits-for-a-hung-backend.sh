#: title = "both gunicorn workers wait for a backend that accepted their requests and hangs; other clients wait for accept()"
#: kind = "K2"
#: needs = ["gunicorn", "/usr/bin/python3", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: cause = "waits-for-service"
#: never_cause = ["workers-busy", "loop-stuck", "stopped"]
#: said = ["waits for an answer of 10.77.0.1:9000"]
#: severity_at_least = "high"
#: [expect.numbers]
#: waiting = [4, 6]
pair
bg $C python3 -c '
import socket
l = socket.create_server(("10.77.0.1", 9000)); held = []
while 1:
    s = l.accept()[0]; s.recv(1000)
    if len(held) < 2: held.append(s)
    else: s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")'
listens $C 9000
cat >"$W/app.py" <<A
import http.client
def app(env, start):
    c = http.client.HTTPConnection("10.77.0.1", 9000); c.request("GET", "/"); body = c.getresponse().read()
    start("200 OK", [("Content-Length", str(len(body)))]); return [body]
A
bg $S gunicorn --chdir "$W" -w 2 -b 10.77.0.2:8000 --timeout 900 app:app
listens $S 8000
for i in $(seq 7); do bg $C curl -s -m 300 -o /dev/null http://10.77.0.2:8000/; done
sleep 4
ready
