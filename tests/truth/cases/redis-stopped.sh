#: title = "redis-server is stopped (SIGSTOP) and clients wait"
#: kind = "K2"
#: needs = ["redis-server", "python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "redis-server"
#: cause = "stopped"
#: never_said = ["the loop"]
one
bg $C redis-server --port 6390 --bind 127.0.0.1 --save '' --dir "$W"
listens $C 6390; sleep 0.2
kill -STOP $(ip netns pids $C | head -1)
bg $C python3 -c '
import socket,time
k=[]
for i in range(4):
    s=socket.create_connection(("127.0.0.1",6390)); s.sendall(b"PING\r\n"); k.append(s)
time.sleep(60)'
sleep 3.5
ready
