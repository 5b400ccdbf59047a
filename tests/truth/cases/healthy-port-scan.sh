#: title = "a scanner tries some 300 ports a second of a web server; nginx serves its clients all the while"
#: kind = "K1"
#: needs = ["nginx", "curl", "nc"]
#: seconds = 14
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; netns "${N}r"; R=${N}r
ip link add "w${N}s" netns "$S" type veth peer name "v${N}r" netns "$R"
ip -n "$S" addr add 192.0.2.2/24 dev "w${N}s"; ip -n "$R" addr add 192.0.2.66/24 dev "v${N}r"
ip -n "$S" link set "w${N}s" up; ip -n "$R" link set "v${N}r" up
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000; server { listen 80; listen 443; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2 3; do bg $C bash -c 'while :; do curl -s http://10.77.0.2/[1-3] >/dev/null; sleep 0.3; done'; done
bg $R bash -c 'while :; do for p in $(seq 1 100 60000); do nc -zn -w 1 192.0.2.2 $p-$((p+99)); sleep 0.3; done; done'
sleep 9
ready
