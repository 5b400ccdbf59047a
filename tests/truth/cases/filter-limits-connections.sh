#: title = "a firewall lets ten connections to redis through and drops the SYNs of the others; seen from the clients' host alone"
#: kind = "K2"
#: needs = ["redis-server", "python3", "nft"]
#: seconds = 19
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: severity_at_least = "warning"
#: cause = "partly-filtered"
#: never_cause = ["peer-accept-queue-full", "port-filtered", "host-down"]
#: said = ["connlimit"]
pair
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save "" --appendonly no
listens $S 6379
filter $S "tcp dport 6379 ct state new ct count over 10"
bg $C python3 -c '
import socket,threading,time
def w():
    try: c=socket.create_connection(("10.77.0.2",6379))
    except OSError: return
    while 1: c.sendall(b"PING\r\n"); c.recv(9); time.sleep(.1)
for i in range(16): threading.Thread(target=w,daemon=True).start(); time.sleep(.02)
time.sleep(90)'
sleep 12
ready
