#: title = "nginx and php-fpm over TCP: five idle children, some requests a second"
#: kind = "K4"
#: needs = ["nginx", "php-fpm8.2", "curl"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: healthy = true
one
chmod 755 "$W"; echo '<?php usleep(20000); echo "ok";' >"$W/i.php"
cat >"$W/f.conf" <<A
[global]
error_log = $W/fe
daemonize = no
[w]
user = www-data
group = www-data
listen = 127.0.0.1:9000
pm = static
pm.max_children = 5
A
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:80; location / { fastcgi_pass 127.0.0.1:9000; fastcgi_param SCRIPT_FILENAME $W/i.php; fastcgi_param REQUEST_METHOD GET; } } }
A
bg $C php-fpm8.2 -y "$W/f.conf"
listens $C 9000
bg $C nginx -c "$W/n.conf"
listens $C 80
bg $C bash -c 'while :; do curl -s -o /dev/null http://127.0.0.1/; sleep 0.1; done'
sleep 3
ready
