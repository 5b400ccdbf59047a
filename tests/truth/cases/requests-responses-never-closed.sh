#: title = "requests with stream=True, responses kept and never closed; the server ends idle connections"
#: kind = "K2"
#: needs = ["nginx", "python3"]
#: seconds = 15
#: also = ["idle-no-keepalive", "recv-queue-stuck"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: destination = "10.77.0.2:80"
#: severity_at_least = "warning"
#: severity_at_most = "high"
pair
/usr/bin/python3 -c 'import requests' || { echo "requests is not installed" >&2; exit 1; }
head -c 3000 /dev/zero >"$W/f"
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 2048; }
http { access_log off; keepalive_timeout 1; server { listen 10.77.0.2:80; root $W; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C /usr/bin/python3 -c '
import requests,time
s=requests.Session(); kept=[]
while 1:
    r=s.get("http://10.77.0.2/f",stream=True); kept.append(r); time.sleep(0.2)'
sleep 9
ready
