#: title = "nginx keeps sixteen idle upstream connections to a node server after a burst"
#: kind = "K4"
#: needs = ["nginx", "node", "ab"]
#: seconds = 10
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S node -e '
const s = require("http").createServer((q, r) => setTimeout(() => r.end("ok"), 5));
s.keepAliveTimeout = 65000; s.listen(3000, "10.77.0.2")'
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; upstream u { server 10.77.0.2:3000; keepalive 16; }
server { listen 127.0.0.1:80; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
A
listens $S 3000
bg $C nginx -c "$W/n.conf"
listens $C 80
within $C ab -q -k -n 2000 -c 16 http://127.0.0.1/
sleep 1.5
ready
