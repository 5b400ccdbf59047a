#: title = "thirty requests wait behind nginx for a report that takes a minute; the node upstream is not blocked"
#: kind = "K4"
#: needs = ["nginx", "node", "curl"]
#: seconds = 10
#: doctor = [[], ["--once"]]
#: healthy = true
one
bg $C node -e 'require("http").createServer((q, r) => setTimeout(() => r.end("ok"), 60000)).listen(3000, "127.0.0.1")'
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:3000; proxy_read_timeout 120; } } }
A
listens $C 3000
bg $C nginx -c "$W/n.conf"
listens $C 80
for i in $(seq 30); do bg $C curl -s -o /dev/null http://127.0.0.1/; done
sleep 4
ready
