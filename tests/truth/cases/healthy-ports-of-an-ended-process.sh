#: title = "40 idle connections beside TIME_WAIT of a process that has ended"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="40000 40999"
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=4096); k=[]
while 1:
    c=l.accept()[0]; k.append(c)
    if len(k)<=500: c.recv(1); c.close()'
listens $S 80
within $C python3 -c '
import socket
[socket.create_connection(("10.77.0.2",80)).close() for i in range(500)]'
sleep 2
bg $C python3 -c '
import socket,time
l=[socket.create_connection(("10.77.0.2",80)) for i in range(40)]; time.sleep(60)'
sleep 2
ready
