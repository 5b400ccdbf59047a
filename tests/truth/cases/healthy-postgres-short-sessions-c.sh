#: title = "twelve sessions of a pool rest at postgres, while scripts run one query each and checks only ask for the password; seen from the clients"
#: kind = "K4"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: healthy = true
same healthy-postgres-short-sessions
