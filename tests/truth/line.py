"""A line between two network namespaces that takes its time: a TUN device in each, and a queue between them.

Input: the namespaces, milliseconds of the way, that each NTH packet takes MORE milliseconds longer (0: none), and `unscale`, if the
window scale of each SYN-ACK is to be cleared, or the kbit/s that it carries from the first namespace to the second.
Runs until it is ended.
"""
import ctypes,fcntl,heapq,os,select,struct,sys,time
ms,nth,more=map(float,sys.argv[3:6]); how="".join(sys.argv[6:7]); unscaled=how=="unscale"
kbits=float(how) if how[:1].isdigit() else 0; libc=ctypes.CDLL(None,use_errno=True)
def tun(ns):
    f=os.open("/run/netns/"+ns,os.O_RDONLY)
    if libc.setns(f,0x40000000): raise OSError(ctypes.get_errno(),"setns")
    t=os.open("/dev/net/tun",os.O_RDWR|os.O_NONBLOCK)
    fcntl.ioctl(t,0x400454ca,struct.pack("16sH22x",b"sat0",0x1001)); return t
def sum16(b):
    s=sum(struct.unpack("!%dH"%(len(b)//2),b))
    while s>>16: s=(s&65535)+(s>>16)
    return s^65535
def unscale(p):
    h=(p[0]&15)*4
    if p[0]>>4!=4 or p[9]!=6 or p[h+13]&18!=18: return p
    p=bytearray(p); i=h+20
    while i<h+(p[h+12]>>4)*4 and p[i]:
        if p[i]==3: p[i+2]=0
        i+=1 if p[i]==1 else p[i+1]
    p[h+16:h+18]=b"\0\0"; t=bytes(p[h:])
    p[h+16:h+18]=struct.pack("!H",sum16(bytes(p[12:20])+struct.pack("!HH",6,len(t))+t+b"\0"*(len(t)%2)))
    return bytes(p)
a,b=tun(sys.argv[1]),tun(sys.argv[2]); other={a:b,b:a}; q=[]; n=0; free=0
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
            if unscaled: p=unscale(p)
            late=0
            if kbits and t==a: free=max(free,now)+len(p)*8/kbits/1000; late=free-now
            if len(q)<20000: heapq.heappush(q,(now+late+(ms+(more if nth and n%nth==0 else 0))/1000,n,other[t],p))
