#: title = "postgres with twenty idle sessions, one LISTEN and one long query; seen from the clients"
#: kind = "K4"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: look_from = "c"
#: doctor = [[], ["--once"]]
#: healthy = true
same healthy-postgres-pool-of-20-idle
