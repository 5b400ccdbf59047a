#: title = "a receiver has set SO_RCVBUF to 8 KiB: its sender waits for the window nearly all the time"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 12
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "buffer-fixed"
#: severity_at_most = "info"
#: [expect.numbers]
#: limited_percent = [50, 100]
wire 5 0 0; ip netns exec $C sysctl -qw net.ipv4.tcp_congestion_control=reno
bg $S python3 -c '
import socket
l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,8192); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
l.bind(("10.77.0.2",9000)); l.listen(); c=l.accept()[0]
while c.recv(65536): pass'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 3
ready
