"""A line between two network namespaces that takes its time: a TUN device in each, and a queue between them.

Input: the namespaces, milliseconds of the way, and that each NTH packet takes MORE milliseconds longer (0: none).
Runs until it is ended.
"""
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
