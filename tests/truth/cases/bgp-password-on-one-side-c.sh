#: title = "a BGP speaker signs its SYNs (TCP MD5), its peer has no password for it and drops them in silence; seen from the speaker alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:179"
#: cause = "key-mismatch"
same bgp-password-on-one-side
