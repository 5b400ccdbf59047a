#: title = "a SYN flood from thousands of forged addresses meets tcp_syncookies=0 and a short SYN backlog: real clients get no answer"
#: kind = "K4"
#: needs = ["nginx", "curl", "python3", "nft"]
#: seconds = 16
#: look_from = "s"
#: also = ["listener-drops-since-open", "sysctl-hazard", "syn-queue-full"]
#: [[expect]]
#: rule = ["syn-flood"]
#: listener = "10.77.0.2:80"
#: severity_at_least = "warning"
internet
for x in tcp_syncookies=0 tcp_max_syn_backlog=128 tcp_no_metrics_save=1; do ip netns exec "$S" sysctl -qw "net.ipv4.$x"; done
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
forge 10.77.0.2 80 15 0.05
sleep 1
for i in 1 2 3 4; do bg $C bash -c 'while :; do curl -s -o /dev/null --connect-timeout 8 http://10.77.0.2/; sleep 0.5; done'; done
sleep 9
ready
