#: title = "downloads that nginx slows down (limit_rate): the client waits for the server on purpose"
#: kind = "K4"
#: needs = ["nginx", "curl"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
head -c 20000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; limit_rate 20k; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3 4; do bg $C curl -s -o /dev/null http://10.77.0.2/f; done
sleep 3
ready
