#: title = "nginx has no worker_connections left: idle clients hold them, and new ones are closed with a reset"
#: kind = "K3"
#: needs = ["nginx", "python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["accept-queue-stalled"]
#: [[expect]]
#: rule = ["closed-without-answer", "abort-storm", "accept-queue-stalled", "reset-source"]
#: severity_at_least = "info"
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 12; }
http { access_log off; reset_timedout_connection on; client_header_timeout 60; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C python3 -c '
import socket,time
k=[]
for i in range(12):
    s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"GET / HTTP/1.1\r\n"); k.append(s)
while 1:
    try: s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"); s.settimeout(1); s.recv(99); s.close()
    except OSError as e: print(e,flush=True)
    time.sleep(.02)'
sleep 3
ready
