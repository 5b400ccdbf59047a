#: title = "nothing listens: a hundred refused connects a second"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 14
#: times = 3
#: [[expect]]
#: rule = ["connect-failures"]
#: comm = "python3"
#: destination = "10.77.0.2:8080"
#: cause = "refused"
#: severity_at_least = "warning"
pair
bg $C python3 -c '
import socket,time
while 1:
    try: socket.create_connection(("10.77.0.2",8080))
    except OSError: time.sleep(0.01)'
sleep 2
ready
