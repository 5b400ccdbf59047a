#: title = "the accept queue of the peer is full; seen from the client's host alone"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:3306"
#: cause = "peer-accept-queue-full"
#: never_said = ["a filter drops this one"]
pair
bg $S python3 -c '
import socket,time
l=socket.create_server(("10.77.0.2",3306),backlog=5); time.sleep(90)'
listens $S 3306
bg $S python3 -m http.server -b 10.77.0.2 80; listens $S 80
bg $C python3 -c '
import socket,threading,time
k=socket.create_connection(("10.77.0.2",80))
def w():
    try: d.append(socket.create_connection(("10.77.0.2",3306)))
    except OSError: pass
d=[]
for i in range(26): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 6
ready
