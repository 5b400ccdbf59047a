#: title = "redis connections idle in a pool are forgotten by the firewall; fresh ones to the same port work"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "python3", "nft"]
#: seconds = 24
#: also = ["path-idle-limit"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "path-forgot-flow"
#: never_cause = ["host-down", "mtu-black-hole"]
pair
bg $S redis-server --bind 10.77.0.2 --port 6379 --protected-mode no --save "" --appendonly no
listens $S 6379
bg $C python3 -c '
import socket,time,sys
p=[socket.create_connection(("10.77.0.2",6379)) for i in range(6)]
for s in p: s.sendall(b"PING\r\n"); s.recv(9)
open(sys.argv[1],"w").write(",".join(str(s.getsockname()[1]) for s in p)); time.sleep(8)
for s in p: s.sendall(b"PING\r\n")
time.sleep(90)' $W/p
sleep 2; ip netns exec $S nft "add table inet f; add chain inet f i { type filter hook input priority 0; }; add rule inet f i tcp sport { $(cat $W/p) } drop"
for i in 1 2; do bg $C redis-cli -h 10.77.0.2 -r -1 -i 0.1 ping; done
sleep 14
ready
