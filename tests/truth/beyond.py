"""A broken end: for each connection of a port, from time to time, one segment whose sequence number is far beyond the window.

Input: the port, and seconds between two such segments of a connection. It copies what the port sends. Runs until it is ended.
"""
import socket,struct,sys,time
port,pause=int(sys.argv[1]),float(sys.argv[2]); last={}
heard=socket.socket(socket.AF_PACKET,socket.SOCK_DGRAM,socket.htons(3)); out=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
def sum16(b):
    s=sum(struct.unpack("!%dH"%(len(b)//2),b)); s=(s>>16)+(s&65535); return ~(s+(s>>16))&65535
while 1:
    p,at=heard.recvfrom(2048)
    if at[2]!=socket.PACKET_OUTGOING or p[0]>>4!=4 or p[9]!=6: continue
    h=(p[0]&15)*4; sport,dport,seq,ack=struct.unpack("!HHII",p[h:h+12])
    # Segments of open connections alone: no SYN, FIN or RST.
    if sport!=port or p[h+13]&7 or not p[h+13]&16: continue
    now=time.monotonic()
    if now-last.setdefault(dport,now)<pause: continue
    last[dport]=now; seq=(seq+(1<<29))&0xffffffff; ends=p[12:20]
    t=struct.pack("!HHIIBBHHH",sport,dport,seq,ack,0x50,16,500,0,0)
    t=t[:16]+struct.pack("!H",sum16(ends+struct.pack("!BBH",0,6,len(t))+t))+t[18:]
    try: out.sendto(struct.pack("!BBHHHBBH",0x45,0,20+len(t),0,0,64,6,0)+ends+t,(socket.inet_ntoa(p[16:20]),0))
    except OSError: pass
