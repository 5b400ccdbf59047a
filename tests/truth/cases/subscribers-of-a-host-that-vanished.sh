#: title = "a publisher sends small messages to subscribers whose host lost its power: repeated, they are merged to full segments"
#: kind = "K2"
#: needs = ["redis-server", "python3", "nft"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "redis-server"
#: cause = "host-down"
#: never_cause = ["mtu-black-hole"]
#: never_said = ["MTU"]
pair
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save '' --daemonize no; listens $S 6379
bg $C python3 -c '
import socket
k=[socket.create_connection(("10.77.0.2",6379)) for i in range(5)]
for s in k: s.sendall(b"SUBSCRIBE news\r\n")
import threading
def r(s):
    while s.recv(65536): pass
for s in k: threading.Thread(target=r,args=(s,)).start()'
bg $S python3 -c '
import socket,time
p=socket.create_connection(("10.77.0.2",6379))
while 1: p.sendall(b"PUBLISH news "+b"x"*500+b"\r\n"); p.recv(100); time.sleep(0.1)'
sleep 2; filter $C "ip saddr 10.77.0.2"; ip netns exec $C nft "add chain inet f o { type filter hook output priority 0; policy drop; }"
sleep 5
ready
