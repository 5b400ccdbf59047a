#: title = "uploads over a path of 120 ms crawl: tcp_wmem of the sending host ends at 32 KiB"
#: kind = "K4"
#: needs = ["nc", "python3"]
#: seconds = 18
#: look_from = "c"
#: [[expect]]
#: rule = ["sndbuf-limited"]
#: comm = "nc"
#: cause = "buffer-at-limit"
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
wire 60 0 0
ip netns exec $C sysctl -qw net.ipv4.tcp_wmem="4096 16384 32768"
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",9000),backlog=64)
def h(s):
    try:
        while s.recv(1<<18): pass
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 9000
head -c 200000000 /dev/zero >"$W/f"
for i in 1 2 3; do bg $C bash -c "cat $W/f | nc 10.77.0.2 9000"; done
sleep 12
ready
