#: title = "nginx with four reuseport listeners under full load of short connections from ab"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 4; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80 reuseport; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C ab -r -q -t 30 -n 1000000 -c 32 http://10.77.0.2/
sleep 2
ready
