#: title = "haproxy is idle, and checks a web server and a redis five times a second: http, redis PING, bare connect"
#: kind = "K4"
#: needs = ["haproxy", "nginx", "redis-server"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
cat >"$W/h.cfg" <<A
defaults
  mode tcp
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  default-server inter 200ms
listen web
  bind 127.0.0.1:8080
  mode http
  option httpchk GET /
  server a 10.77.0.2:80 check
listen l4
  bind 127.0.0.1:8081
  server a 10.77.0.2:80 check
listen redis
  bind 127.0.0.1:6379
  option tcp-check
  tcp-check send PING\r\n
  tcp-check expect string +PONG
  server a 10.77.0.2:6379 check
A
listens $S 80; listens $S 6379
bg $C haproxy -db -f "$W/h.cfg"
sleep 3
ready
