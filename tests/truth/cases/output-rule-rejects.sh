#: title = "a rule of this host's own OUTPUT rejects what goes to one port"
#: kind = "K2"
#: needs = ["curl", "nft", "python3"]
#: seconds = 7
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "curl"
#: destination = "10.77.0.2:9200"
#: cause = "rejected-here"
#: said = ["OUTPUT"]
pair
bg $S python3 -m http.server -b 10.77.0.2 9200
listens $S 9200
ip netns exec $C nft "add table inet o; add chain inet o o { type filter hook output priority 0; }; add rule inet o o tcp dport 9200 reject"
bg $C bash -c 'while :; do curl -s -m 10 -o /dev/null http://10.77.0.2:9200/; sleep .2; done'
sleep 2
ready
