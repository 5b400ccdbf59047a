#: title = "gunicorn with four threads behind ab: more clients than threads, each waits some milliseconds"
#: kind = "K4"
#: needs = ["gunicorn", "ab"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/app.py" <<'A'
import time
def app(e, start):
    time.sleep(0.01)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
A
bg $S env -C "$W" gunicorn -w 2 -k gthread --threads 4 -b 10.77.0.2:8000 app:app
listens $S 8000
bg $C ab -r -q -t 30 -n 1000000 -c 16 http://10.77.0.2:8000/
sleep 2.5
ready
