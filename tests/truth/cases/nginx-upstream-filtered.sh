#: title = "nginx is well, its upstream's port is dropped by a firewall: nginx's connects get no answer"
#: kind = "K3"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 14
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["syn-sent-pileup", "connect-failures"]
#: comm = "nginx"
#: destination = "10.77.0.2:8080"
#: severity_at_least = "warning"
#: never_cause = ["refused"]
pair; filter $S "tcp dport 8080"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 127.0.0.1:80; location / { proxy_pass http://10.77.0.2:8080; } } }
A
bg $C nginx -c "$W/n.conf"
listens $C 80
for i in $(seq 8); do bg $C curl -s -o /dev/null http://127.0.0.1/; done
sleep 7
ready
