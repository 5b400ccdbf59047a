#: title = "one of three nginx workers with a listener each (reuseport) is stopped: a third of the clients never get a byte; seen from there"
#: kind = "K2"
#: needs = ["nginx", "curl"]
#: seconds = 30
#: also = ["fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["no-answer"]
#: comm = "curl"
#: destination = "10.77.0.2:80"
#: cause = "program-stuck"
#: severity_at_least = "warning"
#: said = ["processes) wait"]
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 3; error_log $W/e; pid $W/p; events { worker_connections 200; }
http { access_log off; server { listen 10.77.0.2:80 reuseport; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80; sleep 0.5
kill -STOP $(pgrep -P $(cat "$W/p") | head -1)
bg $C bash -c 'for i in $(seq 400); do curl -s -o /dev/null -m 15 http://10.77.0.2/ & sleep 0.2; done'
sleep 21
ready
