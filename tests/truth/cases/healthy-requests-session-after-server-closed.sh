#: title = "a requests session of eight threads is idle, and the server has closed the pooled connections: a bounded, usual CLOSE_WAIT"
#: kind = "K4"
#: needs = ["nginx", "python3"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: healthy = true
pair
/usr/bin/python3 -c 'import requests' || { echo "requests is not installed" >&2; exit 1; }
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; keepalive_timeout 1; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C /usr/bin/python3 -c '
import requests,time
from concurrent.futures import ThreadPoolExecutor
s=requests.Session()
with ThreadPoolExecutor(8) as p: list(p.map(lambda i: s.get("http://10.77.0.2/").text, range(200)))
time.sleep(60)'
sleep 6
ready
