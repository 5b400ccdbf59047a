#: title = "wrk has just ended its run of a hundred connections and closed them all at once"
#: kind = "K5"
#: needs = ["nginx", "wrk"]
#: seconds = 10
#: look_from = "s"
#: doctor = [[]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 2; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C wrk -t 2 -c 100 -d 2s http://10.77.0.2/
sleep 3.5
ready
