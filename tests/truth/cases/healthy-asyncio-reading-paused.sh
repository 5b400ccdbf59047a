#: title = "an asyncio client takes 100 kB of its stream every 4 s: the transport pauses reading"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 24
#: doctor = [[], ["--once"]]
#: times = 2
#: healthy = true
pair; truncate -s 1G $W/big
bg $S python3 -m http.server -d $W 8000; listens $S 8000
bg $C python3 -c '
import asyncio
async def m():
    r,w=await asyncio.open_connection("10.77.0.2",8000)
    w.write(b"GET /big HTTP/1.0\r\n\r\n"); await w.drain()
    while True: await r.read(100000); await asyncio.sleep(4)
asyncio.run(m())'
sleep 13
ready
