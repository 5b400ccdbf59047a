#: title = "a firewall admits the first address of a host and not its second; connects from the second wait"
#: kind = "K2"
#: needs = ["redis-server", "python3", "nft"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "partly-filtered"
#: never_cause = ["peer-accept-queue-full", "port-filtered", "host-down"]
pair
ip -n $C addr add 10.77.0.9/24 dev "v${N}c"
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save "" --appendonly no
listens $S 6379
filter $S "tcp dport 6379 ip saddr != 10.77.0.1"
bg $C python3 -c '
import socket,threading,time
def w(a):
    try: c=socket.create_connection(("10.77.0.2",6379),source_address=(a,0))
    except OSError: return
    while 1: c.sendall(b"PING\r\n"); c.recv(9); time.sleep(.5)
for a in ["10.77.0.1","10.77.0.9"]*3: threading.Thread(target=w,args=(a,),daemon=True).start()
time.sleep(90)'
sleep 6
ready
