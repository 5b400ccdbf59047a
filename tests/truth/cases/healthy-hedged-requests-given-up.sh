#: title = "an aiohttp client gives up every tenth request after 0.25 s on purpose and asks again"
#: kind = "K4"
#: needs = ["/usr/bin/python3"]
#: seconds = 14
#: look_from = "s"
#: healthy = true
pair
/usr/bin/python3 -c 'import aiohttp' || { echo "aiohttp is not installed" >&2; exit 1; }
cat >"$W/s.py" <<A
import asyncio, random
from aiohttp import web
async def h(q):
    await asyncio.sleep(3 if random.random() < 0.1 else 0.01); return web.Response(text="x" * 500)
a = web.Application(); a.router.add_get("/", h); web.run_app(a, host="10.77.0.2", port=8080, print=None)
A
bg $S /usr/bin/python3 "$W/s.py"
listens $S 8080
cat >"$W/c.py" <<A
import asyncio, aiohttp, time
t = aiohttp.ClientTimeout(total=0.25)
async def f(c):
    end = time.time() + 600
    while time.time() < end:
        try:
            async with c.get("http://10.77.0.2:8080/", timeout=t) as r: await r.read()
        except asyncio.TimeoutError: continue
        await asyncio.sleep(0.3)
async def main():
    async with aiohttp.ClientSession() as c: await asyncio.gather(*[f(c) for i in range(12)])
asyncio.run(main())
A
bg $C /usr/bin/python3 "$W/c.py"
sleep 9
ready
