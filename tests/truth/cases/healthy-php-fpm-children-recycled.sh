#: title = "php-fpm starts its children on demand and ends each after five requests, nginx without kept upstream connections"
#: kind = "K4"
#: needs = ["nginx", "php-fpm8.2", "curl"]
#: seconds = 14
#: healthy = true
one
chmod 755 "$W"; mkdir -p "$W/t"; echo '<?php usleep(30000); echo "ok";' >"$W/i.php"
cat >"$W/f.conf" <<A
[global]
error_log = $W/fe
daemonize = no
[w]
user = www-data
group = www-data
listen = 127.0.0.1:9000
pm = ondemand
pm.max_children = 12
pm.process_idle_timeout = 1s
pm.max_requests = 5
A
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; client_body_temp_path $W/t; proxy_temp_path $W/t; fastcgi_temp_path $W/t; uwsgi_temp_path $W/t; scgi_temp_path $W/t;
server { listen 127.0.0.1:80; location / { fastcgi_pass 127.0.0.1:9000; fastcgi_param SCRIPT_FILENAME $W/i.php; fastcgi_param REQUEST_METHOD GET; } } }
A
bg $C php-fpm8.2 -y "$W/f.conf"
listens $C 9000
bg $C nginx -c "$W/n.conf" -p "$W"
listens $C 80
for i in 1 2 3; do bg $C bash -c 'for i in $(seq 4000); do curl -s -m 5 -o /dev/null http://127.0.0.1/; sleep 0.1; done'; done
sleep 9
ready
