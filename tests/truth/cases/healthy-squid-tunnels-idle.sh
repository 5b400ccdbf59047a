#: title = "squid with ten idle CONNECT tunnels and a plain request now and then"
#: kind = "K4"
#: needs = ["squid", "nginx", "curl", "python3"]
#: seconds = 18
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
mkdir -p "$W/sq"; chmod 777 "$W" "$W/sq"
cat >"$W/s.conf" <<A
http_port 10.77.0.2:3128
acl all_ports port 1-65535
http_access allow all
cache deny all
access_log none
cache_log $W/sq/cache.log
pid_filename none
coredump_dir $W/sq
pinger_enable off
dns_nameservers 127.0.0.1
shutdown_lifetime 1 second
A
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; keepalive_timeout 120; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
# Its shared memory has the name of the service: that of a squid that was killed is in nobody's way.
bg $S squid -n "$N" -N -f "$W/s.conf"
listens $S 80; listens $S 3128
bg $C python3 -c '
import socket,time
k=[]
for i in range(10):
    s=socket.create_connection(("10.77.0.2",3128)); s.sendall(b"CONNECT 10.77.0.2:80 HTTP/1.1\r\nHost: x\r\n\r\n"); s.recv(999)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"); s.recv(999); k.append(s)
time.sleep(60)'
bg $C bash -c 'while :; do curl -s -o /dev/null -x http://10.77.0.2:3128 http://10.77.0.2/; sleep 0.3; done'
sleep 4
ready
