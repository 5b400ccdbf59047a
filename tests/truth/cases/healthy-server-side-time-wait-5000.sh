#: title = "a server closed 5,000 connections first: TIME_WAIT by itself harms nobody"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

within $C ab -n 5000 -c 16 http://10.77.0.2/
ready
