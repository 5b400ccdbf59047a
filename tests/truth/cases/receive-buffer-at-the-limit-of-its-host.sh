#: title = "tcp_rmem of the receiving host ends at 8 KiB: a download over 80 ms crawls"
#: kind = "K7"
#: needs = ["nginx", "curl", "python3"]
#: seconds = 12
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "curl"
#: cause = "buffer-at-limit"
#: severity_at_most = "info"
wire 40 0 0; ip netns exec $C sysctl -qw net.ipv4.tcp_rmem="4096 8192 8192"
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
