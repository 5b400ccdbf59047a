#: title = "tcp_window_scaling = 0 on the receiving host: 64 KiB in each round trip of 120 ms"
#: kind = "K7"
#: needs = ["nginx", "curl", "python3"]
#: seconds = 12
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "curl"
#: cause = "no-window-scaling"
#: said = ["tcp_window_scaling = 0 on this host"]
#: severity_at_most = "info"
wire 60 0 0; ip netns exec $C sysctl -qw net.ipv4.tcp_window_scaling=0
head -c 60000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C curl -s -o /dev/null http://10.77.0.2/f
sleep 5
ready
