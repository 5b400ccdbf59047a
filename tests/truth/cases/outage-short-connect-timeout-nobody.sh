#: title = "total outage of a backend, the client has a connect timeout of 1 s; seen without privileges"
#: kind = "K3"
#: needs = ["python3", "nft"]
#: seconds = 20
#: times = 4
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup"]
#: destination = "10.77.0.2:8080"
#: severity_at_least = "high"
same outage-short-connect-timeout-1s
