#: title = "the cable of the redis host is pulled while four clients send commands"
#: kind = "K2"
#: needs = ["redis-server", "python3"]
#: seconds = 16
#: also = ["send-queue-stuck", "connect-failures", "syn-sent-pileup", "neighbour-failure"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: severity_at_least = "warning"
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379
bg $C python3 -c '
import socket,time,threading
def w():
    s=socket.create_connection(("10.77.0.2",6379))
    while 1: s.sendall(b"PING\r\n"); s.recv(99); time.sleep(.05)
for i in range(4): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1
ip -n $S link set "v${N}s" down
sleep 8
ready
