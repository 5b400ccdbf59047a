#: title = "a server sets SO_RCVBUF to 64 KiB on what it has accepted, on a path of 80 ms; seen from its client alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 13
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: destination = "10.77.0.2:9000"
#: cause = "buffer-fixed"
#: never_cause = ["reader-slow"]
#: severity_at_most = "info"
wire 40 0 0
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",9000)); c=l.accept()[0]; c.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,65536)
while c.recv(65536): pass'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 4
ready
