#: title = "postgres has given its ten connections away, and ends all others after a line; seen from the clients"
#: kind = "K7"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: [[expect]]
#: rule = ["closed-without-answer"]
#: destination = "10.77.0.2:5432"
#: cause = "own-limit"
#: severity_at_least = "warning"
same postgres-out-of-slots
