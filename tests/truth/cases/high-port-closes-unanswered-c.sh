#: title = "the same seen from the client: half of what a server on port 60051 gets, it closes without an answer"
#: kind = "K3"
#: needs = ["/usr/bin/python3"]
#: seconds = 7
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "python3"
#: destination = "10.77.0.2:60051"
#: severity_at_least = "warning"
same high-port-closes-unanswered
