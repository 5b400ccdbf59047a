#: title = "a firewall on the way drops SYNs that ask for ECN, and the client asks: each connect takes a second longer"
#: kind = "K7"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 8
#: look_from = "c"
#: [[expect]]
#: rule = ["late-connects"]
#: comm = "curl"
#: destination = "10.77.2.2:80"
#: cause = "ecn-filtered"
#: severity_at_least = "warning"
#: severity_at_most = "warning"
routed
ip netns exec "$C" sysctl -qw net.ipv4.tcp_ecn=1
ip netns exec "$R" nft "add table ip f; add chain ip f w { type filter hook forward priority 0; }; add rule ip f w tcp flags & (syn|ack|ecn|cwr) == syn|ecn|cwr drop"
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.2.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C bash -c 'while :; do curl -s -m 9 -o /dev/null http://10.77.2.2/ & sleep .2; done'
sleep 3
ready
