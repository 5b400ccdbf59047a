#: title = "requests.get() without a session, 500 local ports: connect() fails with EADDRNOTAVAIL"
#: kind = "K2"
#: needs = ["nginx", "python3"]
#: seconds = 20
#: also = ["time-wait-client-churn", "connect-failures"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["ephemeral-port-exhaustion"]
#: destination = "10.77.0.2:80"
#: severity_at_least = "high"
pair; ip netns exec $C sysctl -qw net.ipv4.ip_local_port_range="30000 30499"
/usr/bin/python3 -c 'import requests' || { echo "requests is not installed" >&2; exit 1; }
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; return 200 ok; } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C /usr/bin/python3 -c '
import requests,time
while 1:
    try: requests.get("http://10.77.0.2/")
    except requests.RequestException as e: print(e,flush=True); time.sleep(0.05)'
for _ in $(seq 100); do grep -q 'Cannot assign' "$W/out" && break; sleep 0.1; done
grep -q 'Cannot assign' "$W/out" || { echo "there are still ports" >&2; exit 1; }
sleep 1
ready
