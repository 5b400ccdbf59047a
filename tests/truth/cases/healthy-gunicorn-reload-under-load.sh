#: title = "gunicorn is reloaded (HUP) under load: old workers end, new ones take over the same listener"
#: kind = "K6"
#: needs = ["gunicorn", "ab"]
#: seconds = 12
#: look_from = "s"
#: healthy = true
pair
cat >"$W/app.py" <<'A'
import time
def app(e, start):
    time.sleep(0.01)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S env -C "$W" gunicorn -w 3 -b 10.77.0.2:8000 -p "$W/pid" app:app
listens $S 8000; sleep 1.5
bg $C ab -r -q -t 30 -n 1000000 -c 6 http://10.77.0.2:8000/
sleep 1
kill -HUP $(cat "$W/pid")
sleep 1.5
ready
