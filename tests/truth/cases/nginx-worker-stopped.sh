#: title = "nginx: the one worker is stopped by a signal, its master runs"
#: kind = "K2"
#: needs = ["nginx", "python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled", "accept-queue-overflow"]
#: comm = "nginx"
#: cause = "stopped"
#: severity_at_least = "high"
#: said = ["kill -CONT"]
one
mkdir -p "$W/t"
printf 'worker_processes 1; daemon off; pid %s/pid; error_log %s/e; events { worker_connections 64; }
http { access_log off; client_body_temp_path %s/t; proxy_temp_path %s/t; fastcgi_temp_path %s/t; uwsgi_temp_path %s/t;
scgi_temp_path %s/t; server { listen 127.0.0.1:8080; } }' "$W" "$W" "$W" "$W" "$W" "$W" "$W" >"$W/c"
bg $C nginx -c "$W/c" -p "$W" -g 'user root;'
listens $C 8080; sleep 0.3
M=$(cat "$W/pid"); kill -STOP $(pgrep -P "$M")
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",8080)) for i in range(5)]; time.sleep(60)'
sleep 3.5
ready
