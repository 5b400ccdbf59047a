#: title = "a VPN is down and took its route with it: each connect to the office ends at once with ENETUNREACH"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 6
#: [[expect]]
#: rule = ["connect-failures"]
#: severity_at_least = "warning"
#: said = ["no route"]
pair
bg $C python3 -c '
import socket,time
while 1:
    try: socket.create_connection(("10.66.0.5",443),timeout=5)
    except OSError: pass
    time.sleep(.3)'
sleep 2
ready
