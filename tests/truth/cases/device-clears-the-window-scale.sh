#: title = "a device on the way clears the window scale of SYN-ACKs: an upload moves a few hundred bytes at a time"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["window-limited"]
#: comm = "python3"
#: cause = "window-cut"
#: never_cause = ["reader-slow"]
#: severity_at_least = "warning"
wire 1 0 0 unscale
bg $S python3 -c '
import socket
s=socket.create_server(("10.77.0.2",80)).accept()[0]
while s.recv(65536): pass'
listens $S 80
bg $C python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"x"*9000000)'
sleep 3
ready
