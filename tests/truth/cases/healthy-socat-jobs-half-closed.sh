#: title = "socat runs a program per connection; clients half-closed and the programs work for a minute and a half"
#: kind = "K2"
#: needs = ["socat", "nc"]
#: seconds = 80
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S socat -t 200 TCP-LISTEN:7000,fork,reuseaddr,backlog=50 'EXEC:sh -c "cat >/dev/null; sleep 90; echo done"'
listens $S 7000
for i in $(seq 14); do bg $C bash -c 'echo job | nc -N 10.77.0.2 7000'; done
sleep 66
ready
