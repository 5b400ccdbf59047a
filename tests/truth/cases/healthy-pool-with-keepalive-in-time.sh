#: title = "an idle pool whose keepalive comes before the path's limit, and a busy connection without"
#: kind = "K7"
#: healthy = true
#: needs = ["redis-server", "redis-cli", "python3"]
#: seconds = 12
#: doctor = [["--threshold", "path-idle-seconds=4"]]
pair
bg $S redis-server --bind 10.77.0.2 --port 6379 --protected-mode no --save "" --appendonly no
listens $S 6379
bg $C python3 -c '
import socket,time
p=[socket.create_connection(("10.77.0.2",6379)) for i in range(8)]
for s in p:
    s.setsockopt(socket.SOL_SOCKET,socket.SO_KEEPALIVE,1); s.setsockopt(socket.IPPROTO_TCP,socket.TCP_KEEPIDLE,2)
    s.sendall(b"PING\r\n"); s.recv(9)
time.sleep(90)'
bg $C redis-cli -h 10.77.0.2 -r -1 -i 0.1 ping
sleep 6
ready
