#: title = "a service sends segments beyond the window through a masquerade: they end at the gateway, which resets the service"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 9
#: also = ["abort-storm"]
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "untranslated"
#: said = ["translates them, and found"]
routed
# An address that no other case has: the doctor looks at all of them.
ip -n $S addr add 10.79.2.2/32 dev lo; ip -n $R route add 10.79.2.2 via 10.77.2.2
ip netns exec $R nft "add table ip n; add chain ip n p { type nat hook postrouting priority 100; };
    add rule ip n p ip daddr 10.79.2.2 tcp dport 8080 masquerade random"
beyond 10.79.2.2 8080
ready
