#: title = "total outage of a backend, the client has a connect timeout of 1 s; seen without privileges"
#: kind = "K3"
#: needs = ["python3", "nft"]
#: seconds = 20
#: times = 4
#: nobody = true
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup"]
#: destination = "10.77.0.2:8080"
#: severity_at_least = "high"
pair; filter $S "tcp dport 8080"
bg $C python3 -c '
import socket,threading
def w():
    while 1:
        s=socket.socket(); s.settimeout(1)
        try: s.connect(("10.77.0.2",8080))
        except OSError: pass
        s.close()
[threading.Thread(target=w).start() for i in range(10)]'
sleep 4
cure() { unfilter $S; ip netns exec $S sh -c "python3 -m http.server -b 10.77.0.2 8080 >/dev/null 2>&1 &"; }
ready
