#: title = "bursts of 60 connects meet somaxconn 8; the server answers each within a millisecond"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["sysctl-hazard", "listener-drops-since-open"]
#: [[expect]]
#: rule = ["accept-queue-overflow"]
#: comm = "python3"
#: listener = "10.77.0.2:8080"
#: cause = "arrivals-too-fast"
#: said = ["somaxconn"]
#: never_said = ["accepts nothing", "accepted none", "does not come back"]
#: severity_at_least = "high"
pair
within $S sysctl -qw net.core.somaxconn=8
bg $S python3 -c '
import asyncio
async def h(r,w):
    await r.read(99); w.write(b"x"); await w.drain(); w.close()
async def main():
    s=await asyncio.start_server(h,"10.77.0.2",8080,backlog=1024)
    await s.serve_forever()
asyncio.run(main())'
listens $S 8080
bg $C python3 -c '
import asyncio
async def one():
    try:
        r,w=await asyncio.wait_for(asyncio.open_connection("10.77.0.2",8080),9)
        w.write(b"r"); await r.read(9); w.close()
    except (OSError, asyncio.TimeoutError): pass
async def main():
    k=[]
    while 1:
        k+=[asyncio.ensure_future(one()) for _ in range(60)]; await asyncio.sleep(0.9)
asyncio.run(main())'
sleep 4
ready
