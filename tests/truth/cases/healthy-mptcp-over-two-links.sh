#: title = "Multipath TCP over two links: the second subflow of each connection is a backup, idle, and was never accept()ed"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: healthy = true
pair
ip link add "w${N}c" netns "$C" type veth peer name "w${N}s" netns "$S"
ip -n "$C" addr add 10.78.0.1/24 dev "w${N}c"; ip -n "$S" addr add 10.78.0.2/24 dev "w${N}s"
ip -n "$C" link set "w${N}c" up; ip -n "$S" link set "w${N}s" up
for n in "$C" "$S"; do ip netns exec "$n" sysctl -qw net.mptcp.enabled=1; ip -n "$n" mptcp limits set subflow 2 add_addr_accepted 2; done
ip -n "$S" mptcp endpoint add 10.78.0.2 dev "w${N}s" signal backup
bg $S python3 -c '
import socket,threading
l=socket.socket(socket.AF_INET,socket.SOCK_STREAM,262); l.setsockopt(1,2,1); l.bind(("0.0.0.0",7000)); l.listen(64)
def h(s):
    try:
        while s.recv(4096): s.sendall(b"y"*4096)
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 7000
bg $C python3 -c '
import socket,threading,time
def w(d):
    s=socket.socket(socket.AF_INET,socket.SOCK_STREAM,262); s.connect(("10.77.0.2",7000))
    while 1:
        s.sendall(b"x"*100); s.recv(4096); time.sleep(d)
for i in range(20): threading.Thread(target=w,args=(0.1 if i<10 else 2,),daemon=True).start()
time.sleep(600)'
sleep 7
ready
