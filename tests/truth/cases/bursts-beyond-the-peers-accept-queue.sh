#: title = "bursts of connects overflow the short accept queue of a fast server: no path loses anything"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: also = ["dead-peer-retransmit"]
#: [[expect]]
#: rule = ["lossy-destination", "late-connects"]
#: destination = "10.77.0.2:8080"
#: cause = "peer-accept-queue-full"
#: never_cause = ["path", "lossy-path"]
pair
bg $S python3 -c '
import asyncio
async def h(r,w):
    await r.read(9); w.write(b"ok"); await w.drain(); w.close()
async def main():
    s=await asyncio.start_server(h,"10.77.0.2",8080,backlog=6)
    await s.serve_forever()
asyncio.run(main())'
listens $S 8080
bg $C python3 -c '
import asyncio
async def one():
    try:
        r,w=await asyncio.wait_for(asyncio.open_connection("10.77.0.2",8080),9); w.write(b"x"); await asyncio.wait_for(r.read(),9); w.close()
    except Exception: pass
async def main():
    while 1:
        k=[asyncio.create_task(one()) for _ in range(60)]; await asyncio.sleep(2)
asyncio.run(main())'
sleep 4
ready
