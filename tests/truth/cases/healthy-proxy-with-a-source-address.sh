#: title = "haproxy with a source address keeps 150 connections to a backend, and chooses ports per destination"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="20000 20399"
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",90),backlog=500); k=[]
while 1: k.append(l.accept()[0])'
listens $S 90
cat >"$W/h.cfg" <<X
defaults
  mode tcp
  timeout connect 2s
  timeout client 1m
  timeout server 1m
listen l
  bind 127.0.0.1:8090
  source 10.77.0.1
  server s 10.77.0.2:90
X
bg $C haproxy -f "$W/h.cfg" -db
listens $C 8090
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",8090)) for i in range(150)]; time.sleep(60)'
sleep 2
ready
