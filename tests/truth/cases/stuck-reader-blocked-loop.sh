#: title = "a callback blocks the event loop: the second request of every client stays unread"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 19
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "python3"
#: cause = "loop-stuck"
#: severity_at_least = "high"
one
bg $C python3 -c '
import asyncio, threading
async def h(r, w):
    while True:
        line = await r.readline()
        w.write(b"ok\n"); await w.drain()
        if line == b"block\n": threading.Event().wait()
async def m():
    s = await asyncio.start_server(h, "127.0.0.1", 9000)
    await s.serve_forever()
asyncio.run(m())'
listens $C 9000
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",9000)) for i in range(5)]
for s in k: s.sendall(b"first\n"); s.recv(10)
k[0].sendall(b"block\n"); time.sleep(0.5)
for s in k[1:]: s.sendall(b"second\n")
time.sleep(60)'
sleep 13
ready
