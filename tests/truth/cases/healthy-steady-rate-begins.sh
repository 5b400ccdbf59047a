#: title = "6 connections a second for eight seconds: 400 ports last for ever at that rate"
#: kind = "K1"
#: needs = ["python3", "nginx"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30399"
cat >"$W/nginx.conf" <<X
daemon off; worker_processes 1; error_log /dev/null; pid $W/nginx.pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; location / { return 200 "ok"; } } }
X
bg $S nginx -c "$W/nginx.conf"
listens $S 80

bg $C python3 -c '
import socket,time
begin=time.time(); n=0
while 1:
    s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); s.recv(999); s.close()
    n+=1; d=begin+n/6-time.time()
    if d>0: time.sleep(d)'
sleep 8
ready
