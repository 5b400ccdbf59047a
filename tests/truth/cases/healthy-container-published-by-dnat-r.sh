#: title = "a host publishes the port of a container by DNAT; clients keep connections and make short ones; seen in the container"
#: kind = "K2"
#: needs = ["nginx", "iptables", "python3"]
#: seconds = 9
#: look_from = "r"
#: healthy = true
same healthy-container-published-by-dnat
