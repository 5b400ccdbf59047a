#: title = "the database's host is switched off: no ARP answer, connects end with 'no route to host'"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 14
#: also = ["syn-sent-pileup"]
#: [[expect]]
#: rule = ["connect-failures", "syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.99:5432"
#: severity_at_least = "warning"
#: never_cause = ["refused", "filtered"]
pair
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: socket.create_connection(("10.77.0.99",5432),timeout=10)
        except OSError as e: print(e,flush=True); time.sleep(.2)
for i in range(8): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 7
ready
