#: title = "nginx is stopped: its kernel shakes hands, and every curl gives up after 2 s without a byte; seen from the clients"
#: kind = "K7"
#: needs = ["nginx", "curl"]
#: seconds = 9
#: also = ["fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["no-answer"]
#: comm = "curl"
#: destination = "10.77.0.2:80"
#: cause = "program-stuck"
#: never_cause = ["long-request"]
#: severity_at_least = "high"
pair
cat >"$W/n.conf" <<A
user root; daemon off; master_process off; error_log $W/e; pid $W/p; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
within $C curl -s -m 2 http://10.77.0.2/
kill -STOP $(cat "$W/p")
bg $C bash -c 'for i in $(seq 200); do curl -s -o /dev/null -m 2 http://10.77.0.2/ & sleep 0.3; done'
sleep 4
ready
