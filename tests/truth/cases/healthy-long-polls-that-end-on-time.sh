#: title = "twenty clients hold long polls of 7 s that nobody has an event for, and one page in eight is closed after 3 s; seen from the server"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 16
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S python3 -c '
import asyncio
async def serve(r,w):
    try:
        while await r.read(99):
            gone=asyncio.ensure_future(r.read(99))
            await asyncio.wait([gone],timeout=7)
            if gone.done(): break
            gone.cancel(); w.write(b"nothing"); await w.drain()
    except OSError: pass
    w.close()
async def main():
    async with await asyncio.start_server(serve,"10.77.0.2",8080) as s: await s.serve_forever()
asyncio.run(main())'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def poll(n):
    time.sleep(n*.35)
    while 1:
        s=socket.create_connection(("10.77.0.2",8080)); s.settimeout(3 if n%8==0 else 60); s.sendall(b"poll")
        try: s.recv(9)
        except OSError: pass
        s.close()
for n in range(20): threading.Thread(target=poll,args=(n,)).start()'
sleep 13
ready
