#: title = "one packet in two hundred is lost, as on any wireless path; downloads go on"
#: kind = "K4"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; filter $C "tcp sport 80 numgen random mod 1000 < 5"
head -c 300000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3 4; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/f; sleep 0.05; done'; done
sleep 3
ready
