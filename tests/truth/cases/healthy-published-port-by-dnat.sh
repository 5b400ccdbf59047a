#: title = "a port published on localhost by DNAT and MASQUERADE; traffic flows all the time"
#: kind = "K2"
#: needs = ["python3", "iptables"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
ip netns exec $S sysctl -qw net.ipv4.conf.all.route_localnet=1
ip netns exec $S iptables -t nat -A OUTPUT -p tcp -d 127.0.0.1 --dport 9000 -j DNAT --to-destination 10.77.0.1:80
ip netns exec $S iptables -t nat -A POSTROUTING -s 127.0.0.1 -p tcp --dport 80 -j MASQUERADE
bg $C python3 -c '
import socket,threading
l=socket.create_server(("",80))
def h(s):
    while s.recv(10): s.sendall(b"x")
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $C 80
bg $S python3 -c "
import socket,time
c=socket.create_connection(('127.0.0.1',9000))
while 1: c.sendall(b'x'); c.recv(1); time.sleep(.2)"
sleep 3
ready
