#: title = "nc -z, curl and a bare TCP open probe nginx, redis and memcached, twice a second each"
#: kind = "K4"
#: needs = ["nginx", "redis-server", "memcached", "nc", "curl"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
bg $S memcached -u nobody -l 10.77.0.2
listens $S 80; listens $S 6379; listens $S 11211
bg $C bash -c 'while :; do for p in 80 6379 11211; do nc -z 10.77.0.2 $p; (exec 3<>/dev/tcp/10.77.0.2/$p); done
curl -s -o /dev/null http://10.77.0.2/; curl -sI http://10.77.0.2/; sleep 0.4; done'
sleep 3
ready
