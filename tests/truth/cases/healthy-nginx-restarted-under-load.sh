#: title = "nginx was stopped and started again a second ago; its clients were refused meanwhile and are back"
#: kind = "K5"
#: needs = ["nginx", "curl"]
#: seconds = 9
#: doctor = [[]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/; sleep 0.02; done'
sleep 1
within $S nginx -c "$W/n.conf" -s quit
sleep 1
bg $S nginx -c "$W/n.conf"
listens $S 80
sleep 1
ready
