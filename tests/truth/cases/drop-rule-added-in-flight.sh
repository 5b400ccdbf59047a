#: title = "a firewall rule that drops everything to port 80 comes while six clients use their keep-alive connections"
#: kind = "K2"
#: needs = ["nginx", "python3", "nft"]
#: seconds = 14
#: also = ["syn-sent-pileup", "connect-failures", "send-queue-stuck"]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "python3"
#: destination = "10.77.0.2:80"
#: severity_at_least = "warning"
pair
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C python3 -c '
import http.client,time,threading
def w():
    h=http.client.HTTPConnection("10.77.0.2",80)
    while 1: h.request("GET","/"); h.getresponse().read(); time.sleep(.1)
for i in range(6): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1
filter $S "tcp dport 80"
sleep 7
ready
