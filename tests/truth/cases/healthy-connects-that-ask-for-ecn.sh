#: title = "connects that ask for ECN over a way that takes 40 ms and lets them pass: none is late"
#: kind = "K4"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 8
#: healthy = true
#: doctor = [[], ["--once"]]
wire 20 33 1
ip netns exec "$C" sysctl -qw net.ipv4.tcp_ecn=1
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C bash -c 'while :; do curl -s -m 9 -o /dev/null http://10.77.0.2/ & sleep .1; done'
sleep 3
ready
