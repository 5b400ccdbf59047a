#: title = "the database host lost its network while queries run; nothing to it works"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 11
#: also = ["connect-failures", "syn-sent-pileup"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "python3"
#: destination = "10.77.0.2:5432"
#: cause = "host-down"
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",5432))
def h(s):
    try:
        while s.recv(100): s.sendall(b"r"*40)
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 5432
bg $C python3 -c '
import socket,time,threading
def w():
    s=socket.create_connection(("10.77.0.2",5432))
    while 1: s.sendall(b"SELECT 1"); s.recv(99); time.sleep(.1)
for i in range(5): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1.5; filter $S "ip saddr 10.77.0.1"; sleep 6
ready
