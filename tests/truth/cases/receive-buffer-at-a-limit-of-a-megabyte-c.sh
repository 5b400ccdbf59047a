#: title = "tcp_rmem of the receiving host ends at 1 MB, on a path of 80 ms; seen from the sender alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 16
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "buffer-at-limit"
#: never_cause = ["reader-slow", "buffer-fixed"]
#: severity_at_most = "info"
wire 40 0 0; ip netns exec $S sysctl -qw net.ipv4.tcp_rmem="4096 131072 1000000"
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",9000)); c=l.accept()[0]
while c.recv(65536): pass'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 6
ready
