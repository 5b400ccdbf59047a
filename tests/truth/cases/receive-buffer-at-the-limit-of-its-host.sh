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
download 5
