#: title = "a rule of this host's own OUTPUT drops what goes to one port"
#: kind = "K2"
#: needs = ["curl", "nft"]
#: seconds = 9
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "curl"
#: destination = "10.77.0.2:9200"
#: cause = "local-drop"
#: said = ["OUTPUT"]
pair
ip netns exec $C nft "add table inet o; add chain inet o o { type filter hook output priority 0; }; add rule inet o o tcp dport 9200 drop"
for i in 1 2 3; do bg $C curl -s -m 60 http://10.77.0.2:9200/ -o /dev/null; done
sleep 3
ready
