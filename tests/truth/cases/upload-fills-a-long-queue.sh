#: title = "an upload fills the queue of a slow uplink: each PING to redis beside it takes seconds"
#: kind = "K7"
#: needs = ["python3", "redis-server"]
#: seconds = 19
#: also = ["send-queue-stuck", "lossy-destination", "no-answer"]
#: [[expect]]
#: rule = ["round-trip-grown"]
#: destination = "10.77.0.2:0"
#: cause = "own-transfer"
#: severity_at_least = "warning"
wire 5 0 0 2000; ip netns exec $C sysctl -qw net.ipv4.tcp_congestion_control=reno
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save '' --daemonize no; listens $S 6379
bg $S python3 -c '
import socket
s=socket.create_server(("10.77.0.2",80)).accept()[0]
while s.recv(65536): pass'
listens $S 80
bg $C python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",6379)); s.setsockopt(6,1,1); s.sendall(b"PING\r\n"); s.recv(99)
import threading,time
def ping():
    while 1: s.sendall(b"PING\r\n"); time.sleep(.1)
def pong():
    while s.recv(99): pass
for f in (ping,pong): threading.Thread(target=f,daemon=True).start()
time.sleep(.3)
b=socket.create_connection(("10.77.0.2",80)); b.sendall(b"x"*90000000)'
sleep 13
ready
