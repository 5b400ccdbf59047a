#: title = "150 idle subscribers of redis with tcp-keepalive 1 over a path of 300 ms: at any moment dozens of probes are under way, all are answered"
#: kind = "K2"
#: needs = ["redis-server", "python3"]
#: seconds = 20
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
# wire MS NTH MORE: $C (10.77.0.1) and $S (10.77.0.2) joined by a line that takes MS each way; each NTH packet takes MORE ms longer.
wire() {
    netns "$C"; netns "$S"
    cat >"$W/line.py" <<'P'
import ctypes,fcntl,heapq,os,select,struct,sys,time
ms,nth,more=map(float,sys.argv[3:6]); libc=ctypes.CDLL(None,use_errno=True)
def tun(ns):
    f=os.open("/run/netns/"+ns,os.O_RDONLY)
    if libc.setns(f,0x40000000): raise OSError(ctypes.get_errno(),"setns")
    t=os.open("/dev/net/tun",os.O_RDWR|os.O_NONBLOCK)
    fcntl.ioctl(t,0x400454ca,struct.pack("16sH22x",b"sat0",0x1001)); return t
a,b=tun(sys.argv[1]),tun(sys.argv[2]); other={a:b,b:a}; q=[]; n=0
while 1:
    now=time.monotonic()
    while q and q[0][0]<=now:
        _,_,t,p=heapq.heappop(q)
        try: os.write(t,p)
        except OSError: pass
    r,_,_=select.select([a,b],[],[],max(0,q[0][0]-now) if q else 1)
    now=time.monotonic()
    for t in r:
        for _ in range(64):
            try: p=os.read(t,2048)
            except OSError: break
            n+=1
            if len(q)<20000: heapq.heappush(q,(now+(ms+(more if nth and n%nth==0 else 0))/1000,n,other[t],p))
P
    python3 "$W/line.py" "$C" "$S" "$1" "$2" "$3" </dev/null >>"$W/out" 2>&1 & K+=($!)
    for _ in $(seq 50); do ip -n "$S" link show sat0 >/dev/null 2>&1 && break; sleep 0.1; done
    ip -n "$C" addr add 10.77.0.1/24 dev sat0; ip -n "$S" addr add 10.77.0.2/24 dev sat0
    for n in "$C" "$S"; do ip -n "$n" link set sat0 txqueuelen 4000; ip -n "$n" link set sat0 up; done
}
wire 150 0 0
bg $S redis-server --bind 10.77.0.2 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W" --tcp-keepalive 1
listens $S 6379
bg $C python3 -c '
import socket,time
k=[]
for i in range(150):
    s=socket.socket(); s.setsockopt(1,9,1)
    for o,v in ((4,2),(5,1),(6,5)): s.setsockopt(6,o,v)
    s.setblocking(False)
    try: s.connect(("10.77.0.2",6379))
    except BlockingIOError: pass
    k.append(s); time.sleep(0.01)
time.sleep(1)
for s in k: s.sendall(b"SUBSCRIBE news\r\n"); time.sleep(0.017)
time.sleep(600)'
sleep 14
ready
