#: title = "the connection tracking table is 40 % full and every connection gets its entry"
#: kind = "K7"
#: healthy = true
#: needs = ["python3", "nft", "conntrack"]
#: seconds = 15
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80),backlog=500)
def h(s):
    while s.recv(100): s.sendall(b"x")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
ip netns exec $C nft 'add table inet f; add chain inet f o { type filter hook output priority 0; }; add rule inet f o ct state invalid counter drop'
some=$(($(cat /proc/sys/net/netfilter/nf_conntrack_max) * 4 / 10))
seq 1 "$some" | awk '{printf "-A -s 10.%d.0.1 -d 10.0.0.2 -p tcp --sport %d --dport 80 --state ESTABLISHED -t 300 -u ASSURED\n", int($1/60000), $1%60000+1}' >"$W/entries"
within $C conntrack -R "$W/entries"
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"a"); s.recv(1); s.close(); time.sleep(.05)'
sleep 2
ready
