#: title = "clients call a port of this host on which nothing listens: it was not restarted, and no NAT forgot them"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 5
#: look_from = "s"
#: [[expect]]
#: rule = ["reset-source"]
#: cause = "no-listener"
#: never_said = ["was restarted", "NAT"]
#: severity_at_most = "info"
pair
bg $C python3 -c '
import socket,time
while 1:
    try: socket.create_connection(("10.77.0.2",8080))
    except OSError: pass
    time.sleep(.05)'
sleep 1.5
ready
