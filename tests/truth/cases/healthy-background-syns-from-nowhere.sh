#: title = "two forged SYNs a second from all over: dozens of half-open connections that never complete, far below any limit, real clients unhurt"
#: kind = "K2"
#: needs = ["nginx", "curl", "python3", "nft"]
#: seconds = 24
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
internet
ip netns exec "$S" sysctl -qw net.ipv4.tcp_syncookies=1
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 443; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 443
forge 192.0.2.2 443 1 0.5
for i in 1 2 3; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2:443/; sleep 0.2; done'; done
sleep 18
ready
