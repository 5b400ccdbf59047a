#: title = "a server never closes what it accepted and has reached its limit of 100 descriptors: accept() fails with EMFILE"
#: kind = "K2"
#: needs = ["python3", "prlimit"]
#: seconds = 9
#: look_from = "s"
#: also = ["close-wait-leak", "fd-exhaustion", "close-wait-unaccepted", "accept-queue-overflow"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: listener = "10.77.0.2:8080"
#: severity_at_least = "high"
#: said = ["descriptor"]
#: [[expect]]
#: rule = ["fd-exhaustion", "close-wait-leak"]
#: comm = "python3"
#: severity_at_least = "high"
pair
bg $S prlimit --nofile=100:100 python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",8080)); k=[]
while 1:
    try: s,_=l.accept(); s.recv(99); s.sendall(b"ok"); k.append(s)
    except OSError: time.sleep(.01)'
listens $S 8080
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"hello"); s.settimeout(1)
    try: s.recv(9)
    except OSError: pass
    s.close(); time.sleep(.01)'
sleep 4
ready
