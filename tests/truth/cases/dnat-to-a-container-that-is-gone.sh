#: title = "a port is published to a container that no longer exists: connects end with 'no route to host'"
#: kind = "K3"
#: needs = ["curl", "iptables"]
#: seconds = 16
#: also = ["syn-sent-pileup"]
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup"]
#: destination = "10.77.0.2:8080"
#: severity_at_least = "warning"
#: never_cause = ["refused"]
pair
ip -n $S link add "v${N}x" type dummy 2>/dev/null || ip -n $S link add "v${N}x" type bridge
ip -n $S addr add 10.88.0.1/24 dev "v${N}x"; ip -n $S link set "v${N}x" up
ip netns exec $S sysctl -qw net.ipv4.ip_forward=1
ip netns exec $S iptables -t nat -A PREROUTING -p tcp -d 10.77.0.2 --dport 8080 -j DNAT --to-destination 10.88.0.2:80
for i in 1 2 3 4 5 6; do bg $C bash -c 'while :; do curl -sS -m 10 -o /dev/null http://10.77.0.2:8080/; sleep 0.2; done'; done
sleep 9
ready
