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
download 5
