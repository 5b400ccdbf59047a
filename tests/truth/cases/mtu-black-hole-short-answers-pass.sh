#: title = "full segments to one client are lost on the way; its short requests, each on a connection of its own, are answered"
#: kind = "K2"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 18
#: look_from = "s"
#: also = ["send-queue-stuck"]
#: [[expect]]
#: rule = ["mtu-black-hole"]
#: cause = "mtu-black-hole"
#: never_cause = ["host-down"]
pair; filter $C "meta length > 1200"
mkdir "$W/w"; head -c 300000 /dev/zero >"$W/w/big"; echo ok >"$W/w/i"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W/w; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3; do bg $C curl -s -m 60 -o /dev/null http://10.77.0.2/big; done
bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/i; sleep 0.4; done'
sleep 8
ready
