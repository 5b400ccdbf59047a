#: title = "redis connections idle beyond the firewall's limit die at their next use; those in use work"
#: kind = "K7"
#: needs = ["redis-server", "redis-cli", "python3", "nft"]
#: seconds = 28
#: doctor = [["--threshold", "path-idle-seconds=5"]]
#: [[expect]]
#: rule = ["path-idle-limit"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: severity_at_least = "warning"
#: severity_at_most = "warning"
#: numbers = { count = [6, 6], idle_before_min_ms = [7000, 9500] }
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: cause = "path-forgot-flow"
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
sleep 2; filter $S "tcp sport { $(cat $W/p) }"
for i in 1 2; do bg $C redis-cli -h 10.77.0.2 -r -1 -i 0.1 ping; done
sleep 14
ready
