#: title = "a redis subscriber is stopped while a publisher goes on: redis cannot send to it"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "python3"]
#: seconds = 20
#: look_from = "s"
#: [[expect]]
#: rule = ["zero-window-peer"]
#: comm = "redis-server"
#: severity_at_most = "high"
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W" --client-output-buffer-limit "pubsub 0 0 0"
listens $S 6379
bg $C redis-cli -h 10.77.0.2 SUBSCRIBE news
sleep 0.5
kill -STOP $(ip netns pids $C | while read -r p; do [ "$(cat /proc/$p/comm)" = redis-cli ] && echo $p; done)
bg $S python3 -c '
import socket,time
s=socket.create_connection(("10.77.0.2",6379)); m=b"x"*20000
while 1: s.sendall(b"PUBLISH news "+m+b"\r\n"); s.recv(99); time.sleep(.002)'
sleep 14
ready
