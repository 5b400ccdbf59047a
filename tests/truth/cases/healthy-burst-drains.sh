#: title = "a burst of 300 clients that a server works off at 250 a second, with room in the queue"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 8
#: healthy = true
#: doctor = [[], ["--once"]]
one
bg $C python3 -c '
import socket,time
l=socket.create_server(("127.0.0.1",82),backlog=2000); k=[]; time.sleep(1.2)
while 1: k.append(l.accept()[0]); time.sleep(0.004)'
listens $C 82
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",82)) for i in range(300)]; time.sleep(60)'
sleep 1.5
ready
