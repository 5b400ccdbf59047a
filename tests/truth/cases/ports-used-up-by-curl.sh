#: title = "a loop of curl has used up a small range: connect() fails with EADDRNOTAVAIL"
#: kind = "K1"
#: needs = ["curl", "nginx"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["ephemeral-port-exhaustion"]
#: destination = "10.77.0.2:80"
#: severity_at_least = "critical"
#: said = ["fails now"]
#: numbers = { ports_usable = [120, 120], ports_blocked = [119, 120] }
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30119"
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/ || sleep 0.1; done'
for _ in $(seq 80); do
    ip netns exec $C curl -s -o /dev/null http://10.77.0.2/ || break
    sleep 0.1
done
ready
