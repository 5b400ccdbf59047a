#: title = "a service behind a DNAT sends segments beyond the window: they pass untranslated, and clients are reset"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 12
#: also = ["abort-storm"]
#: doctor = [["--netns", "all"]]
#: silent_after_cure_seconds = 3
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "python3"
#: destination = "10.96.0.1:80"
#: cause = "untranslated"
#: severity_at_least = "warning"
#: said = ["translates them, and found"]
routed
ip netns exec $R nft "add table ip n; add chain ip n p { type nat hook prerouting priority -100; };
    add rule ip n p ip daddr 10.96.0.1 tcp dport 80 dnat to 10.77.2.2:8080"
beyond 10.96.0.1 80
cure() { ip netns exec "$R" nft "add table ip f; add chain ip f w { type filter hook forward priority 0; }; add rule ip f w ct state invalid drop"; }
ready
