#: title = "three uploads at a limited rate (curl --limit-rate) to nginx, which buffers them"
#: kind = "K4"
#: needs = ["nginx", "curl"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
head -c 5000000 /dev/zero >"$W/f"; mkdir "$W/t"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; client_max_body_size 100m; client_body_temp_path $W/t; server { listen 10.77.0.2:80; location / { proxy_pass http://10.77.0.2:81; } }
server { listen 10.77.0.2:81; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3; do bg $C curl -s -o /dev/null --limit-rate 50k -T "$W/f" http://10.77.0.2/; done
sleep 3.5
ready
