#: title = "haproxy was reloaded (-sf): the old process keeps its long sessions, the new one takes the new ones"
#: kind = "K6"
#: needs = ["haproxy", "redis-server", "python3"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/h.cfg" <<A
global
  pidfile $W/h.pid
defaults
  mode tcp
  timeout connect 2s
  timeout client 300s
  timeout server 300s
listen redis
  bind 10.77.0.2:6000
  server a 127.0.0.1:6379
A
bg $S redis-server --bind 127.0.0.1 --save '' --dir "$W"
listens $S 6379
bg $S haproxy -db -f "$W/h.cfg"
listens $S 6000
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",6000)) for i in range(10)]
while 1:
    for s in k: s.sendall(b"PING\r\n"); s.recv(99)
    time.sleep(0.5)'
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",6000)); s.sendall(b"PING\r\n"); s.recv(99); s.close(); time.sleep(.05)'
sleep 1
bg $S haproxy -db -f "$W/h.cfg" -sf $(ip netns pids $S | while read -r p; do [ "$(cat /proc/$p/comm)" = haproxy ] && echo $p; done)
sleep 2
ready
