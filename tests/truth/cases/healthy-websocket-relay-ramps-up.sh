#: title = "users arrive at a proxy, ten a second, each with a session that waits: the proxy opens one to its backend for each"
#: kind = "K7"
#: needs = ["haproxy", "python3"]
#: seconds = 14
#: healthy = true
pair; netns ${N}r
ip link add "v${N}r" netns "${N}r" type veth peer name "w${N}r" netns "$C"
ip -n "${N}r" addr add 10.78.0.1/24 dev "v${N}r"; ip -n "$C" addr add 10.78.0.2/24 dev "w${N}r"
ip -n "${N}r" link set "v${N}r" up; ip -n "$C" link set "w${N}r" up
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",9000),backlog=500); k=[]
while 1: c=l.accept()[0]; k.append(c); c.sendall(b"hello")'
cat >"$W/h.cfg" <<A
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen l
  bind 10.78.0.2:9000
  server s 10.77.0.2:9000
A
bg $C haproxy -f "$W/h.cfg" -db
listens $S 9000; listens $C 9000
bg ${N}r python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.78.0.2",9000)); s.recv(9); s.sendall(b"subscribe"); k.append(s); time.sleep(0.1)'
sleep 8
ready
