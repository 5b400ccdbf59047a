#: title = "a process per job: half-closed jobs of a minute begin to come, five a second"
#: kind = "K6"
#: needs = ["socat", "nc"]
#: seconds = 15
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S socat -t 200 TCP-LISTEN:7000,fork,reuseaddr,backlog=50 'EXEC:sh -c "cat >/dev/null; sleep 60; echo done"'
listens $S 7000
bg $C bash -c 'while :; do (echo job | nc -N 10.77.0.2 7000) & sleep 0.2; done'
sleep 9
ready
