#: title = "a reader takes 800 KB a second over 80 ms; the kernel has chosen its buffer; seen from there"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
wire 40 0 0
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",9000)); c=l.accept()[0]
while c.recv(16384): time.sleep(.02)'
listens $S 9000
pour $C 10.77.0.2 9000
sleep 4
ready
