#: title = "ab with keep-alive: thirty-two busy connections to nginx, no churn"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 2; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C ab -k -q -t 30 -n 10000000 -c 32 http://10.77.0.2/
sleep 2
ready
