#: title = "a gunicorn worker dies at each request: the client reads an end of the stream and nothing before it"
#: kind = "K7"
#: needs = ["gunicorn", "/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: cause = "worker-dies"
#: severity_at_least = "high"
pair
printf 'import os,time\ndef app(e,s):\n    time.sleep(0.05); os._exit(1)\n' >"$W/crash.py"
bg $S gunicorn --chdir "$W" -w 3 -b 10.77.0.2:8000 crash:app
listens $S 8000; sleep 1
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); s.recv(99); s.close(); time.sleep(.1)'
sleep 2
ready
