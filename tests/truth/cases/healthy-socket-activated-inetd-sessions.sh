#: title = "systemd-socket-activate --inetd starts a program per connection; eight sessions wait for their clients"
#: kind = "K6"
#: needs = ["systemd-socket-activate", "nc"]
#: seconds = 10
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S systemd-socket-activate -l 10.77.0.2:7000 -a --inetd cat
listens $S 7000
for i in 1 2 3 4 5 6 7 8; do bg $C bash -c '{ echo hello; exec sleep 60; } | nc 10.77.0.2 7000'; done
sleep 2.5
ready
