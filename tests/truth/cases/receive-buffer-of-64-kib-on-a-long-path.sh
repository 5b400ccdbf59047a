#: title = "a receiver has set SO_RCVBUF to 64 KiB on a path of 80 ms; seen from there"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: cause = "buffer-fixed"
#: severity_at_most = "info"
wire 40 0 0
bg $S python3 -c '
import socket
l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,65536); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
l.bind(("10.77.0.2",9000)); l.listen(); c=l.accept()[0]
while c.recv(65536): pass'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 4
ready
