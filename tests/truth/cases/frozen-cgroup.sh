#: title = "the server's cgroup is frozen (docker pause, systemctl freeze)"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: said = ["frozen"]
#: never_said = ["the loop"]
one; R=$(awk '$3=="cgroup2"{print $2;exit}' /proc/mounts); G=$R/$N; mkdir $G
cleanup() { echo 0 >$G/cgroup.freeze; for _ in 1 2 3 4 5 6 7 8 9 10; do rmdir $G 2>/dev/null && break; sleep 0.2; done; }
bg $C python3 -c '
import asyncio
async def h(r,w):
    while await r.read(100): pass
async def m():
    s=await asyncio.start_server(h,"127.0.0.1",9000); await s.serve_forever()
asyncio.run(m())'
listens $C 9000; P=$(ip netns pids $C | head -1); echo $P >$G/cgroup.procs; echo 1 >$G/cgroup.freeze; sleep 0.2
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",9000)) for i in range(4)]; time.sleep(60)'
sleep 4
ready
