#: title = "a NAT gateway has 17 ports for its clients, and all are taken; client and gateway seen together"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 24
#: also = ["connect-failures"]
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["nat-port-exhaustion"]
#: destination = "10.88.0.2:80"
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.88.0.2:80"
#: cause = "nat-exhausted"
#: never_cause = ["peer-accept-queue-full"]
#: said = ["17 of 17"]
same nat-gateway-out-of-ports
