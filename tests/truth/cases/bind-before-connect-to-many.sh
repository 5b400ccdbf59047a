#: title = "a crawler binds its address first, without IP_BIND_ADDRESS_NO_PORT: 320 of 400 ports are bound to four servers"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 8
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["bind-before-connect"]
#: comm = "python3"
#: severity_at_least = "warning"
#: severity_at_most = "warning"
#: said = ["IP_BIND_ADDRESS_NO_PORT"]
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="20000 20399"
bg $S python3 -c '
import socket,select
ls=[socket.create_server(("10.77.0.2",p),backlog=500) for p in (80,81,82,83)]; k=[]
while 1:
    for l in select.select(ls,[],[])[0]: k.append(l.accept()[0])'
listens $S 83
bg $C python3 -c '
import socket,time
k=[]
for i in range(320):
    s=socket.socket(); s.bind(("10.77.0.1",0)); s.connect(("10.77.0.2",80+i%4)); k.append(s)
time.sleep(60)'
sleep 2
ready
