#: title = "tcp_max_tw_buckets was lowered to 100, and connections end without their TIME_WAIT"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["time-wait-bucket-overflow"]
#: severity_at_least = "warning"
#: severity_at_most = "warning"
#: numbers = { limit = [100, 100], overflows = [100, 200000] }
pair; ip netns exec $S sysctl -qw net.ipv4.tcp_max_tw_buckets=100
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

bg $C bash -c 'while :; do ab -n 1000 -c 2 http://10.77.0.2/; done'
sleep 2
ready
