#: title = "a health check gets its whole answer of a few bytes and the server closes, while 20 connections of browsers stand unused beside it"
#: kind = "K1"
#: needs = ["nginx", "python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
printf 'user root; daemon off; worker_processes 1; error_log %s; pid %s; events { worker_connections 200; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }\n' "$W/e" "$W/p" >"$W/n.conf"
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",80)) for _ in range(20)]
while 1:
    s=socket.create_connection(("10.77.0.2",80)); s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    while s.recv(999): pass
    s.close(); time.sleep(.1)'
sleep 4
ready
