#: title = "a pool of redis connections is idle longer than the path remembers them, keepalive comes later"
#: kind = "K7"
#: needs = ["redis-server", "python3"]
#: seconds = 12
#: doctor = [["--threshold", "path-idle-seconds=4"]]
#: [[expect]]
#: rule = ["path-idle-limit"]
#: comm = "python3"
#: severity_at_most = "info"
#: numbers = { count = [8, 8], never_checked = [4, 4], limit_ms = [4000, 4000] }
pair
bg $S redis-server --bind 10.77.0.2 --port 6379 --protected-mode no --save "" --appendonly no --tcp-keepalive 0
listens $S 6379
bg $C python3 -c '
import socket,time
p=[socket.create_connection(("10.77.0.2",6379)) for i in range(8)]
for s in p[:4]: s.setsockopt(socket.SOL_SOCKET,socket.SO_KEEPALIVE,1)
for s in p: s.sendall(b"PING\r\n"); s.recv(9)
time.sleep(90)'
sleep 5
ready
