#: title = "an inetd service starts a daemon in the background, which keeps the client's connection as its stdin and stdout"
#: kind = "K6"
#: needs = ["systemd-socket-activate", "nc"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-inherited-fd", "close-wait-leak"]
#: comm = "sleep"
pair
printf '#!/bin/sh\nread x\necho "started $x"\nsleep 300 &\n' >"$W/svc"; chmod 755 "$W/svc"
bg $S systemd-socket-activate -l 10.77.0.2:7000 -a --inetd "$W/svc"
listens $S 7000
bg $C bash -c 'for i in $(seq 60); do echo job | timeout 0.2 nc 10.77.0.2 7000; done'
sleep 5.5
ready
