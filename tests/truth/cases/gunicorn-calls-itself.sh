#: title = "both gunicorn workers wait for answers from their own listener"
#: kind = "K2"
#: needs = ["gunicorn", "/usr/bin/python3", "curl"]
#: seconds = 18
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: cause = "calls-itself"
#: never_cause = ["workers-busy", "loop-stuck", "stopped"]
#: said = ["waits for an answer from its own listener"]
#: severity_at_least = "warning"
#: [expect.numbers]
#: waiting = [10, 28]
#: own_calls_waiting = [2, 2]
pair
cat >"$W/app.py" <<A
import requests
def app(env, start):
    if env["PATH_INFO"] == "/report": body = requests.get("http://10.77.0.2:8000/data").content
    else: body = b"data\n"
    start("200 OK", [("Content-Length", str(len(body)))]); return [body]
A
bg $S gunicorn --chdir "$W" -w 2 -b 10.77.0.2:8000 --timeout 900 app:app
listens $S 8000
for i in 1 2 3; do within $C curl -s -m 5 http://10.77.0.2:8000/data; done
# Many users ask for the report in one moment.
for i in $(seq 8); do bg $C curl -s -m 300 -o /dev/null http://10.77.0.2:8000/report; done
sleep 2
bg $C bash -c 'for i in $(seq 400); do curl -s -m 15 -o /dev/null http://10.77.0.2:8000/data & sleep 1.5; done'
sleep 10
ready
