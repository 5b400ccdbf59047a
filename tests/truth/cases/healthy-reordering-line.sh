#: title = "a balanced path delivers each twentieth packet late by 3 ms: out of order, yet nothing is lost and no speed either"
#: kind = "K2"
#: needs = ["nginx", "curl", "python3"]
#: seconds = 22
#: healthy = true
wire 12 20 3
head -c 100000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000; server { listen 10.77.0.2:80; root $W; location /f { limit_rate 300k; } location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3; do bg $C curl -s -o /dev/null http://10.77.0.2/f; done
bg $C python3 -c '
import http.client,time
k=[http.client.HTTPConnection("10.77.0.2",80) for i in range(5)]
while 1:
    for c in k: c.request("GET","/"); c.getresponse().read()
    time.sleep(0.2)'
sleep 15
ready
