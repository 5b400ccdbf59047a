#: title = "the connection tracking table is full: new connections are dropped on this host"
#: kind = "K7"
#: needs = ["python3", "nft", "conntrack"]
#: seconds = 25
#: [[expect]]
#: rule = ["conntrack-pressure"]
#: severity_at_least = "critical"
#: numbers = { percent = [99, 100.1], new_drops = [1, 1000] }
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:80"
#: cause = "conntrack-full"
#: never_cause = ["host-down", "port-filtered"]
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=500); k=[]
while 1: k.append(l.accept()[0])'
listens $S 80
ip netns exec $C nft 'add table inet f; add chain inet f o { type filter hook output priority 0; }; add rule inet f o ct state invalid counter drop'
max=$(cat /proc/sys/net/netfilter/nf_conntrack_max)
seq 1 "$max" | awk '{printf "-A -s 10.%d.0.1 -d 10.0.0.2 -p tcp --sport %d --dport 80 --state ESTABLISHED -t 300 -u ASSURED\n", int($1/60000), $1%60000+1}' >"$W/entries"
within $C conntrack -R "$W/entries"
bg $C python3 -c '
import socket,threading,time
for i in range(6): threading.Thread(target=lambda: socket.create_connection(("10.77.0.2",80)),daemon=True).start()
time.sleep(90)'
sleep 5
ready
