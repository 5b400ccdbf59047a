#: title = "an operator's blackhole route: an open connection cannot send, new connects get EINVAL, which no counter has"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 7
#: also = ["send-queue-stuck", "dead-peer-retransmit"]
#: [[expect]]
#: rule = ["connect-failures"]
#: said = ["blackhole"]
#: never_said = ["ENETUNREACH"]
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",7000)); c,_=l.accept()
while c.recv(999): pass'
listens $S 7000
bg $C python3 -c '
import socket,time
c=socket.create_connection(("10.77.0.2",7000))
while 1:
    c.sendall(b"x"*9); time.sleep(.1)
    try: socket.create_connection(("10.77.0.2",7001),timeout=1)
    except OSError: pass'
sleep 1
ip -n "$C" route add blackhole 10.77.0.2/32
sleep 1
ready
