#: title = "asyncio server whose loop is blocked in a synchronous call"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: cause = "loop-stuck"
#: severity_at_least = "high"
one
bg $C python3 -c '
import asyncio,time
async def h(r,w):
    await r.read(10); time.sleep(30)
async def m():
    s=await asyncio.start_server(h,"127.0.0.1",9300); await s.serve_forever()
asyncio.run(m())'
listens $C 9300
bg $C python3 -c '
import socket,time
k=[]
for i in range(6):
    s=socket.create_connection(("127.0.0.1",9300)); s.sendall(b"x"); k.append(s); time.sleep(0.05)
time.sleep(60)'
sleep 4
ready
