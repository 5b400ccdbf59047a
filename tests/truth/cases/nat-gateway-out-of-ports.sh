#: title = "a NAT gateway has 17 ports for its clients, and all are taken: some connects work, the others are dropped in silence"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 22
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.88.0.2:80"
#: severity_at_least = "warning"
#: cause = "nat-exhausted"
#: never_cause = ["peer-accept-queue-full", "port-filtered"]
pair; netns ${N}r
ip link add "v${N}x" netns $S type veth peer name "v${N}y" netns ${N}r
ip -n $S addr add 10.88.0.1/24 dev "v${N}x"; ip -n ${N}r addr add 10.88.0.2/24 dev "v${N}y"
ip -n $S link set "v${N}x" up; ip -n ${N}r link set "v${N}y" up; ip -n $C route add default via 10.77.0.2
ip netns exec $S sysctl -qw net.ipv4.ip_forward=1
ip netns exec $S nft "add table ip n; add chain ip n p { type nat hook postrouting priority 100; };
    add rule ip n p oifname v${N}x ip protocol tcp masquerade to :1024-1040"
bg ${N}r python3 -c '
import socket,threading
l=socket.create_server(("",80),backlog=500)
def h(s):
    while s.recv(10): s.sendall(b"x")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens ${N}r 80
bg $C python3 -c '
import socket,threading,time
def w():
    try: c=socket.create_connection(("10.88.0.2",80),timeout=60)
    except OSError: return
    while 1: c.sendall(b"x"); c.recv(1); time.sleep(.3)
for i in range(26): threading.Thread(target=w,daemon=True).start(); time.sleep(.02)
def late():
    try: socket.create_connection(("10.88.0.2",80),timeout=4)
    except OSError: pass
while 1: threading.Thread(target=late,daemon=True).start(); time.sleep(.5)'
sleep 11
ready
