#: title = "a rule sends what leaves for the service to a sidecar on 127.0.0.1:15001, which is down: every connect is refused, by this host"
#: kind = "K3"
#: needs = ["nft", "python3", "curl"]
#: seconds = 9
#: look_from = "c"
#: also = ["reset-source"]
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "curl"
#: destination = "10.77.0.2:80"
#: cause = "answered-here"
#: severity_at_least = "warning"
pair
bg $S python3 -m http.server 80
listens $S 80
ip netns exec $C nft "add table ip n; add chain ip n o { type nat hook output priority -100; }; add rule ip n o ip daddr 10.77.0.0/24 tcp dport 80 redirect to :15001"
for i in 1 2 3; do bg $C bash -c 'while :; do curl -s -m 5 -o /dev/null http://10.77.0.2/; sleep 0.3; done'; done
sleep 3
ready
