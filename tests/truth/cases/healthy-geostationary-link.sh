#: title = "a site behind a geostationary satellite: 600 ms round trip, downloads, short connects and a shell, nothing lost"
#: kind = "K2"
#: needs = ["nginx", "curl", "socat", "python3"]
#: seconds = 18
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
wire 300 0 0
head -c 50000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; location /f { limit_rate 100k; } location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
bg $S socat TCP-LISTEN:22,bind=10.77.0.2,fork,reuseaddr EXEC:cat
listens $S 80; listens $S 22
for i in 1 2 3 4; do bg $C curl -s -o /dev/null http://10.77.0.2/f; done
for i in 1 2 3 4 5 6; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/; sleep 1; done'; done
bg $C bash -c '(while :; do echo x; sleep 0.2; done) | socat - TCP:10.77.0.2:22'
sleep 12
ready
