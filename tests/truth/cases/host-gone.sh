#: title = "the whole host is silent"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 12
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.0.2:5432"
#: never_cause = ["peer-accept-queue-full"]
#: severity_at_least = "warning"
pair; filter $S "ip saddr 10.77.0.1"
bg $C python3 -c '
import socket,threading,time
def w(p):
    try: socket.create_connection(("10.77.0.2",p))
    except OSError: pass
for i in range(12): threading.Thread(target=w,args=(5432,),daemon=True).start()
time.sleep(60)'
sleep 6
ready
