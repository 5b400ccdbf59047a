#: title = "a server with two interfaces drops what comes for its second address: strict reverse path filter and the answer would leave by the first"
#: kind = "K2"
#: needs = ["nginx", "curl"]
#: seconds = 14
#: look_from = "c"
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.2.2:80"
#: severity_at_least = "warning"
netns "$C"; netns "$S"; netns "${N}r"; R=${N}r
ip -n "$R" link add br0 type bridge; ip -n "$R" link set br0 up
ip link add "v${N}c" netns "$C" type veth peer name "v${N}x" netns "$R"
ip link add "v${N}s" netns "$S" type veth peer name "v${N}y" netns "$R"
ip link add "w${N}s" netns "$S" type veth peer name "v${N}z" netns "$R"
ip -n "$R" link set "v${N}x" master br0; ip -n "$R" link set "v${N}y" master br0
ip -n "$R" addr add 10.77.1.254/24 dev br0; ip -n "$R" addr add 10.77.2.254/24 dev "v${N}z"
ip -n "$C" addr add 10.77.1.1/24 dev "v${N}c"
ip -n "$S" addr add 10.77.1.2/24 dev "v${N}s"; ip -n "$S" addr add 10.77.2.2/24 dev "w${N}s"
for l in "$C v${N}c" "$S v${N}s" "$S w${N}s" "$R v${N}x" "$R v${N}y" "$R v${N}z"; do ip -n "${l% *}" link set "${l#* }" up; done
ip -n "$C" route add default via 10.77.1.254; ip -n "$S" route add default via 10.77.1.254
ip netns exec "$R" sysctl -qw net.ipv4.ip_forward=1
for i in all default "v${N}s" "w${N}s"; do ip netns exec "$S" sysctl -qw "net.ipv4.conf.$i.rp_filter=1"; done
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
for i in 1 2; do bg $C bash -c 'while :; do curl -s -o /dev/null http://10.77.1.2/; sleep 0.3; done'; done
for i in 1 2 3 4; do bg $C bash -c 'while :; do curl -s -o /dev/null --connect-timeout 20 http://10.77.2.2/; sleep 1; done'; done
sleep 9
ready
