#: title = "a sidecar takes outgoing connections by REDIRECT (Istio, Linkerd); the application's pool is idle"
#: kind = "K2"
#: needs = ["python3", "iptables", "haproxy"]
#: seconds = 9
#: doctor = [[], ["--once"], ["--interval", "4s"]]
#: healthy = true
pair
bg $S python3 -c '
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline(): self.wfile.write(b"x\n")
class T(socketserver.ThreadingTCPServer): daemon_threads=True; allow_reuse_address=True
T(("10.77.0.2",80),H).serve_forever()'
listens $S 80
cat >$W/h <<'P'
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen out
    bind 127.0.0.1:15001
    server app 10.77.0.2:80 source 10.77.0.1
P
bg $C haproxy -db -f $W/h
listens $C 15001
ip netns exec $C iptables -t nat -A OUTPUT -p tcp -d 10.77.0.9 --dport 80 -j REDIRECT --to-ports 15001
ip netns exec $C iptables -t nat -A OUTPUT -p tcp -d 127.0.0.1 --dport 8080 -j REDIRECT --to-ports 15001
bg $C python3 -c '
import socket,time
k=[socket.create_connection((a,p)) for i in range(6) for a,p in (("10.77.0.9",80),("127.0.0.1",8080))]
for s in k: s.sendall(b"q\n"); s.recv(9)
while 1: k[0].sendall(b"q\n"); k[0].recv(9); time.sleep(.5)'
sleep 3
ready
