#: title = "aiohttp answers fifty long polls only after a minute; half of the clients poll again and again"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
/usr/bin/python3 -c 'import aiohttp' || { echo "aiohttp is not installed" >&2; exit 1; }
bg $S /usr/bin/python3 -c '
import asyncio
from aiohttp import web
async def h(q):
    await asyncio.sleep(float(q.query["s"])); return web.Response(text="ok")
a=web.Application(); a.router.add_get("/",h); web.run_app(a,host="10.77.0.2",port=8080,print=None)'
listens $S 8080
bg $C /usr/bin/python3 -c '
import asyncio,aiohttp
async def poll(c,s):
    while 1:
        async with c.get("http://10.77.0.2:8080/",params={"s":str(s)}) as r: await r.read()
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as c:
        await asyncio.gather(*[poll(c,60 if i%2 else 0.7) for i in range(50)])
asyncio.run(main())'
sleep 3
ready
