#: title = "somebody stopped a server (SIGSTOP) whose clients have sent requests"
#: kind = "K4"
#: needs = ["redis-server", "python3"]
#: seconds = 20
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "redis-server"
#: cause = "stopped"
#: severity_at_least = "high"
#: said = ["SIGCONT"]
pair
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save '' --daemonize no; listens $S 6379
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",6379)) for i in range(3)]
for s in k: s.sendall(b"PING\r\n"); s.recv(10)
time.sleep(1)
for s in k: s.sendall(b"PING\r\n")
time.sleep(60)'
sleep 0.7; kill -STOP $(ip netns pids $S)
sleep 12
ready
