#: title = "a firewall lets ten connections to redis through and drops the SYNs of the others; clients and server on one host"
#: kind = "K2"
#: needs = ["redis-server", "python3", "nft"]
#: seconds = 14
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "127.0.0.1:6379"
#: severity_at_least = "warning"
#: cause = "partly-filtered"
#: said = ["a filter lets only a part of them through"]
one
bg $C redis-server --port 6379 --save "" --appendonly no
listens $C 6379
filter $C "tcp dport 6379 ct state new ct count over 10"
bg $C python3 -c '
import socket,threading,time
def w():
    try: c=socket.create_connection(("127.0.0.1",6379))
    except OSError: return
    while 1: c.sendall(b"PING\r\n"); c.recv(9); time.sleep(.1)
for i in range(16): threading.Thread(target=w,daemon=True).start(); time.sleep(.02)
time.sleep(90)'
sleep 7
ready
