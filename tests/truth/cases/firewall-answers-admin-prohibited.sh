#: title = "a firewall on the way answers connects to the database with ICMP admin-prohibited: the clients say No route to host though the host is well"
#: kind = "K2"
#: needs = ["psql", "nginx", "curl", "nft", "socat"]
#: seconds = 12
#: look_from = "c"
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "psql"
#: destination = "10.77.2.2:5432"
#: cause = "rejected"
#: never_cause = ["no-answer"]
#: severity_at_least = "warning"
routed
ip netns exec "$R" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000
ip netns exec "$R" nft "add table inet f; add chain inet f w { type filter hook forward priority 0; }; add rule inet f w ct state established accept; add rule inet f w tcp dport 80 accept; add rule inet f w meta l4proto icmp accept; add rule inet f w reject with icmpx type admin-prohibited"
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.2.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
bg $S socat TCP-LISTEN:5432,bind=10.77.2.2,fork,reuseaddr EXEC:cat
listens $S 80; listens $S 5432
for i in 1 2 3; do bg $C bash -c 'while :; do psql -q "host=10.77.2.2 user=app dbname=app connect_timeout=5" -c "select 1"; sleep 0.3; done'; done
bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.2.2/; sleep 0.3; done'
sleep 8
ready
