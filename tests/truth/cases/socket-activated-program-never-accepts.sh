#: title = "the program behind a socket unit does not take the listener that it is given"
#: kind = "K2"
#: needs = ["systemd-socket-activate", "python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["inherited-listener", "accept-queue-stalled"]
#: comm = "sleep"
#: listener = ":7000"
#: said = ["socket activation", "ExecStart"]
#: never_said = ["SOCK_CLOEXEC", "restart of the server fails"]
pair
bg $S systemd-socket-activate -l 10.77.0.2:7000 sleep 60
listens $S 7000
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",7000)) for i in range(3)]; time.sleep(60)'
sleep 4
ready
