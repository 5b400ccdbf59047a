#: title = "nothing listens: a hundred refused connects a second; seen without privileges"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 9
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures"]
#: severity_at_least = "warning"
pair
bg $C python3 -c '
import socket,time
while 1:
    try: socket.create_connection(("10.77.0.2",8080))
    except OSError: time.sleep(0.01)'
sleep 2
ready
