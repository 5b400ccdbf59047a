#: title = "two forged SYNs a second from all over: dozens of half-open connections that never complete, far below any limit, real clients unhurt"
#: kind = "K2"
#: needs = ["nginx", "curl", "python3", "nft"]
#: seconds = 24
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; netns "${N}r"; R=${N}r
ip link add "w${N}s" netns "$S" type veth peer name "v${N}r" netns "$R"
ip -n "$S" addr add 192.0.2.2/24 dev "w${N}s"; ip -n "$R" addr add 192.0.2.1/24 dev "v${N}r"
ip -n "$S" link set "w${N}s" up; ip -n "$R" link set "v${N}r" up
ip -n "$S" route add default via 192.0.2.1
ip netns exec "$R" nft "add table inet f; add chain inet f i { type filter hook prerouting priority -300; }; add rule inet f i ip daddr 198.18.0.0/15 drop"
ip netns exec "$S" sysctl -qw net.ipv4.tcp_syncookies=1
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 443; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 443
bg $R python3 -c '
import random,socket,struct,time
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
d=socket.inet_aton("192.0.2.2")
def ck(b):
    t=sum(struct.unpack("!%dH"%(len(b)//2),b)); t=(t>>16)+(t&65535); return ~(t+(t>>16))&65535
while 1:
    a=struct.pack("!I",0xC6120000+random.randrange(1,1<<17))
    t=struct.pack("!HHIIBBHHHBBH",random.randrange(1024,65535),443,random.getrandbits(32),0,0x60,2,65535,0,0,2,4,1460)
    c=ck(a+d+struct.pack("!BBH",0,6,len(t))+t); t=t[:16]+struct.pack("!H",c)+t[18:]
    s.sendto(struct.pack("!BBHHHBBH4s4s",0x45,0,20+len(t),0,0,64,6,0,a,d)+t,("192.0.2.2",0))
    time.sleep(0.5)'
for i in 1 2 3; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2:443/; sleep 0.2; done'; done
sleep 18
ready
