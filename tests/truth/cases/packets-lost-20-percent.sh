#: title = "20 % of the packets of a web server's host are lost; a loop of curl feels it"
#: kind = "K3"
#: needs = ["nginx", "curl", "nft"]
#: seconds = 16
#: look_from = "s"
#: also = ["dead-peer-retransmit", "syn-ack-unanswered", "fin-wait1-stuck", "last-ack-stuck", "send-queue-stuck"]
#: [[expect]]
#: rule = ["lossy-destination"]
#: severity_at_least = "warning"
pair; filter $C "tcp sport 80 numgen random mod 100 < 20"
head -c 1000000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root $W; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3 4 5 6 7 8; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.0.2/f; done'; done
sleep 8
ready
