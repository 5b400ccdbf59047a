#: title = "both php-fpm children are busy for a minute, ten requests of nginx wait in php-fpm's accept queue"
#: kind = "K2"
#: needs = ["nginx", "php-fpm8.2", "curl"]
#: seconds = 12
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "php-fpm8.2"
#: listener = "127.0.0.1:9000"
#: severity_at_least = "warning"
#: never_cause = ["stopped"]
one
chmod 755 "$W"; echo '<?php sleep(60); echo "ok";' >"$W/i.php"
cat >"$W/f.conf" <<A
[global]
error_log = $W/fe
daemonize = no
[w]
user = www-data
group = www-data
listen = 127.0.0.1:9000
pm = static
pm.max_children = 2
A
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:80; location / { fastcgi_pass 127.0.0.1:9000; fastcgi_param SCRIPT_FILENAME $W/i.php; fastcgi_param REQUEST_METHOD GET; } } }
A
bg $C php-fpm8.2 -y "$W/f.conf"
listens $C 9000
bg $C nginx -c "$W/n.conf"
listens $C 80
for i in $(seq 12); do bg $C curl -s -o /dev/null http://127.0.0.1/; done
sleep 5
ready
