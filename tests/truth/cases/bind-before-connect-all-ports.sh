#: title = "bind(addr,0) before connect() uses all ports: no destination can be reached"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 8
#: also = ["ephemeral-port-exhaustion"]
#: [[expect]]
#: rule = ["bind-before-connect"]
#: comm = "python3"
#: severity_at_least = "critical"
#: never_said = ["more destination addresses"]
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="20000 20399"
bg $S python3 -c '
import socket,select
ls=[socket.create_server(("10.77.0.2",p),backlog=500) for p in (80,81)]; k=[]
while 1:
    for l in select.select(ls,[],[])[0]: k.append(l.accept()[0])'
listens $S 81
bg $C python3 -c '
import socket,time
k=[]
for i in range(400):
    s=socket.socket()
    try: s.bind(("10.77.0.1",0)); s.connect(("10.77.0.2",80)); k.append(s)
    except OSError: break
time.sleep(60)'
sleep 3
ready
