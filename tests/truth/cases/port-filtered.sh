#: title = "a firewall drops one port of a host whose other ports answer"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.0.2:8443"
#: never_cause = ["host-down"]
pair
bg $S python3 -m http.server -b 10.77.0.2 80; listens $S 80
bg $S python3 -m http.server -b 10.77.0.2 8443; listens $S 8443
filter $S "tcp dport 8443"
bg $C python3 -c '
import socket,threading,time
k=socket.create_connection(("10.77.0.2",80))
def w():
    try: socket.create_connection(("10.77.0.2",8443))
    except OSError: pass
for i in range(12): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 6
ready
