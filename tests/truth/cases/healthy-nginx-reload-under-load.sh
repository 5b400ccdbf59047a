#: title = "nginx was reloaded: the old worker still sends two slow downloads, the new one serves short requests"
#: kind = "K4"
#: needs = ["nginx", "curl", "ab"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
head -c 3000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; location /slow/ { alias $W/; limit_rate 50k; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C curl -s -o /dev/null http://10.77.0.2/slow/f
bg $C curl -s -o /dev/null http://10.77.0.2/slow/f
bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/f; sleep 0.05; done'
sleep 1
within $S nginx -c "$W/n.conf" -s reload
sleep 1
ready
