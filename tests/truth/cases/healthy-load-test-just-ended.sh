#: title = "ab without keep-alive has just ended: four thousand TIME_WAIT on the server, nobody connects any more"
#: kind = "K4"
#: needs = ["nginx", "ab"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 2; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
within $C ab -q -n 4000 -c 16 http://10.77.0.2/
sleep 1
ready
