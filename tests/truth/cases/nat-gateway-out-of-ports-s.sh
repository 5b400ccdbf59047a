#: title = "a NAT gateway has 17 ports for its clients, and all are taken; seen on the gateway, where no socket is"
#: kind = "K7"
#: needs = ["python3", "nft"]
#: seconds = 24
#: look_from = "s"
#: doctor = [[]]
#: [[expect]]
#: rule = ["nat-port-exhaustion"]
#: destination = "10.88.0.2:80"
#: severity_at_least = "warning"
#: numbers = { ports_taken = [17, 17], lowest_port = [1024, 1024], highest_port = [1040, 1040], new_insert_failed = [1, 200] }
same nat-gateway-out-of-ports
