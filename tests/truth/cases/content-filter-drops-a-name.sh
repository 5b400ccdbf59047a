#: title = "a content filter on the way drops requests for one name after the handshake; requests for others pass"
#: kind = "K2"
#: needs = ["nginx", "curl", "iptables"]
#: seconds = 14
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["dead-peer-retransmit"]
#: comm = "curl"
#: destination = "10.77.2.2:80"
#: never_cause = ["host-down", "port-filtered", "mtu-black-hole", "lossy-path"]
#: said = ["content"]
#: severity_at_least = "warning"
routed
ip netns exec "$R" iptables -A FORWARD -p tcp --dport 80 -m string --string blocked.example --algo bm -j DROP
cat >"$W/n.conf" <<A
daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 10.77.2.2:80; location / { return 200 "ok"; } } }
A
bg $S nginx -c "$W/n.conf"
listens $S 80
bg $C bash -c 'while :; do curl -s -m 12 -o /dev/null -H "Host: blocked.example" http://10.77.2.2/ & curl -s -m 5 -o /dev/null -H "Host: fine.example" http://10.77.2.2/; sleep .5; done'
sleep 8
ready
