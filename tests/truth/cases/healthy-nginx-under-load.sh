#: title = "nginx, master and two workers, under steady load of short connections"
#: kind = "K4"
#: needs = ["nginx", "python3"]
#: seconds = 9
#: healthy = true
#: doctor = [[], ["--once"]]
#: times = 2
one
mkdir -p "$W/t"
printf 'worker_processes 2; daemon off; pid %s/pid; error_log %s/e; events { worker_connections 256; }
http { access_log off; keepalive_timeout 0; client_body_temp_path %s/t; proxy_temp_path %s/t; fastcgi_temp_path %s/t;
uwsgi_temp_path %s/t; scgi_temp_path %s/t; server { listen 127.0.0.1:8080; return 200 ok; } }' "$W" "$W" "$W" "$W" "$W" "$W" "$W" >"$W/c"
bg $C nginx -c "$W/c" -p "$W" -g 'user root;'
listens $C 8080
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        s=socket.create_connection(("127.0.0.1",8080)); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while s.recv(999): pass
        s.close(); time.sleep(0.02)
[threading.Thread(target=w,daemon=True).start() for i in range(8)]
time.sleep(60)'
sleep 1.5
ready
