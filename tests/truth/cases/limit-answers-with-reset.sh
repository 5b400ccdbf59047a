#: title = "a filter of the redis host allows eight connections and answers further SYNs with RST: the pool works, its growth is refused"
#: kind = "K2"
#: needs = ["redis-server", "python3", "nft"]
#: seconds = 8
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "turned-away"
#: never_cause = ["refused"]
#: said = ["connlimit"]
#: severity_at_least = "warning"
pair
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save "" --appendonly no
listens $S 6379
ip netns exec "$S" nft "add table inet f; add chain inet f i { type filter hook input priority 0; }; add rule inet f i tcp dport 6379 ct state new ct count over 8 reject with tcp reset"
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try:
            c=socket.create_connection(("10.77.0.2",6379))
            while 1: c.sendall(b"PING\r\n"); c.recv(9); time.sleep(.2)
        except OSError: time.sleep(.3)
for i in range(13): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 3
ready
