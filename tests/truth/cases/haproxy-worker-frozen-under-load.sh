#: title = "haproxy is stopped under load, and its listener's queue of 64 overflows"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 12
#: look_from = "s"
#: also = ["accept-queue-stalled", "listener-drops-since-open", "close-wait-unaccepted", "recv-queue-stuck", "syn-ack-unanswered", "accept-queue-dead-entries"]
#: [[expect]]
#: rule = ["accept-queue-overflow"]
#: comm = "haproxy"
#: listener = "10.77.0.2:80"
#: cause = "stopped"
#: severity_at_least = "high"
pair
cat >"$W/h.cfg" <<A
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
listen web
  bind 10.77.0.2:80 backlog 64
  http-request return status 200
A
bg $S haproxy -db -f "$W/h.cfg"
listens $S 80
bg $C python3 -c '
import socket,time,threading
def w():
    while 1:
        try: s=socket.create_connection(("10.77.0.2",80),timeout=20); s.sendall(b"GET / HTTP/1.0\r\n\r\n"); s.settimeout(20); s.recv(999); s.close()
        except OSError: pass
        time.sleep(.01)
for i in range(120): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1
kill -STOP $(ip netns pids $S | while read -r p; do [ "$(cat /proc/$p/comm)" = haproxy ] && echo $p; done)
sleep 5
ready
