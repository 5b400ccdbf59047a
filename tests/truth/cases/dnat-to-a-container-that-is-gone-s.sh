#: title = "a port is published to a container that no longer exists; seen with the namespace that publishes it"
#: kind = "K2"
#: needs = ["curl", "iptables"]
#: seconds = 16
#: also = ["connect-failures"]
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.0.2:8080"
#: severity_at_least = "warning"
#: cause = "translated-elsewhere"
#: said = ["10.88.0.2:80"]
same dnat-to-a-container-that-is-gone
