#: title = "haproxy checks three servers often, of which one is stopped on purpose: its checks are refused, and every request is served"
#: kind = "K4"
#: needs = ["haproxy", "nginx", "curl"]
#: seconds = 9
#: healthy = true
checked_servers 10.77.0.2 10.77.0.3
