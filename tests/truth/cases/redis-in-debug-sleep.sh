#: title = "one command occupies redis for a minute: eight clients wait for answers, new ones for accept()"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["recv-queue-stuck"]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "redis-server"
#: listener = "10.77.0.2:6379"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W" --enable-debug-command yes
listens $S 6379
bg $C python3 -c '
import socket,time
def o():
    s=socket.create_connection(("10.77.0.2",6379)); return s
k=[o() for i in range(8)]
for s in k: s.sendall(b"PING\r\n"); s.recv(99)
time.sleep(1)
for s in k: s.sendall(b"PING\r\n")
k+=[o() for i in range(4)]
for s in k[8:]: s.sendall(b"PING\r\n")
time.sleep(60)'
sleep 0.5
bg $C redis-cli -h 10.77.0.2 DEBUG SLEEP 60
sleep 5
ready
