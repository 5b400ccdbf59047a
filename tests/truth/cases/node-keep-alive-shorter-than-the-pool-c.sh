#: title = "a pool uses connections again that node had closed before; seen from the pool"
#: kind = "K2"
#: needs = ["node", "python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "python3"
#: destination = "10.77.0.2:3000"
#: cause = "used-after-close"
#: never_said = ["NAT", "a device between"]
same node-keep-alive-shorter-than-the-pool
