#: title = "a reader takes 400 KB a second over 80 ms; the kernel has chosen its buffer; seen from its sender alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 10
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "reader-slow"
#: never_cause = ["buffer-fixed", "buffer-at-limit"]
#: severity_at_most = "info"
wire 40 0 0; ip netns exec $C sysctl -qw net.ipv4.tcp_congestion_control=reno
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",9000)); c=l.accept()[0]
while c.recv(16384): time.sleep(.04)'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 4
ready
