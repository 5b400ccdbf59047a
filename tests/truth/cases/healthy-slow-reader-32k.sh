#: title = "nginx sends a large file to a reader that takes 32 KiB every 4 s"
#: kind = "K1"
#: needs = ["python3", "nginx"]
#: seconds = 34
#: times = 5
#: healthy = true
pair; truncate -s 2G $W/big; chmod 755 $W
printf 'daemon off; user root; pid %s/p; error_log /dev/null; events {} http { access_log off; server { listen 80; root %s; } }' $W $W >$W/n; bg $S nginx -c $W/n; listens $S 80
bg $C python3 -c '
import socket,time
x=socket.create_connection(("10.77.0.2",80)); x.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
while 1: x.recv(32768); time.sleep(4)'
sleep 15
ready
