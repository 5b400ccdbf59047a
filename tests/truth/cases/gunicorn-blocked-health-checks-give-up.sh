#: title = "gunicorn's only worker is held by one request; health checks connect, wait a second, and leave"
#: kind = "K2"
#: needs = ["gunicorn", "curl"]
#: seconds = 16
#: look_from = "s"
#: also = ["accept-queue-stalled", "accept-queue-dead-entries"]
#: [[expect]]
#: rule = ["close-wait-unaccepted"]
#: comm = "gunicorn"
#: listener = "10.77.0.2:8000"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
cat >"$W/app.py" <<'A'
import time
def app(e, start):
    time.sleep(100)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S env -C "$W" gunicorn -w 1 -t 200 -b 10.77.0.2:8000 app:app
listens $S 8000; sleep 1.5
bg $C bash -c 'while :; do curl -s -m 1 -o /dev/null http://10.77.0.2:8000/health; sleep 0.2; done'
sleep 8
ready
