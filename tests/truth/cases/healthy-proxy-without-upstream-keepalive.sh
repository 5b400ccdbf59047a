#: title = "nginx without keepalive to its upstream, a thousand requests: nothing is short of anything"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

cat >"$W/proxy.conf" <<X
daemon off; worker_processes 2; error_log /dev/null; pid $W/proxy.pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:8080; location / { proxy_pass http://10.77.0.2:80; } } }
X
bg $C nginx -c "$W/proxy.conf"
listens $C 8080
within $C ab -n 1000 -c 10 http://127.0.0.1:8080/
bg $C ab -n 100000 -c 2 http://127.0.0.1:8080/
ready
