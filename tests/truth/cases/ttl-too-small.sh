#: title = "the TTL of a host is too small for the way: connects end with 'no route to host'"
#: kind = "K2"
#: needs = ["curl", "python3"]
#: seconds = 8
#: also = ["syn-sent-pileup"]
#: [[expect]]
#: rule = ["connect-failures"]
#: destination = "10.77.2.2:9200"
#: cause = "hops-run-out"
#: severity_at_least = "warning"
#: said = ["ip_default_ttl"]
routed
bg $S python3 -m http.server -b 10.77.2.2 9200
listens $S 9200
ip netns exec $C sysctl -qw net.ipv4.ip_default_ttl=1
for i in 1 2 3 4 5 6; do bg $C bash -c 'while :; do curl -s -m 10 -o /dev/null http://10.77.2.2:9200/; sleep .2; done'; sleep .3; done
sleep 1
ready
