#: title = "a handler of an asyncio server calls its own server with a blocking client: the loop waits for itself"
#: kind = "K2"
#: needs = ["python3", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: listener = "10.77.0.2:8000"
#: cause = "calls-itself"
#: never_cause = ["workers-busy", "loop-stuck", "stopped"]
#: severity_at_least = "warning"
#: [expect.numbers]
#: own_calls_waiting = [1, 1]
pair
cat >"$W/s.py" <<'A'
import asyncio, urllib.request
async def h(r, w):
    l = await r.readline()
    while (await r.readline()).strip(): pass
    b = b"data"
    if b"/report" in l: b = urllib.request.urlopen("http://10.77.0.2:8000/data", timeout=500).read()
    w.write(b"HTTP/1.0 200 OK\r\n\r\n" + b); w.close()
async def m():
    async with await asyncio.start_server(h, "10.77.0.2", 8000): await asyncio.sleep(900)
asyncio.run(m())
A
bg $S python3 "$W/s.py"
listens $S 8000
within $C curl -s -m 5 http://10.77.0.2:8000/data
bg $C curl -s -m 300 -o /dev/null http://10.77.0.2:8000/report
sleep 1
for i in 1 2 3; do bg $C curl -s -m 100 http://10.77.0.2:8000/data; done
sleep 4
ready
