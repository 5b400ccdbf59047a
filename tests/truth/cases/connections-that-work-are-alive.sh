#: title = "no row of a dead peer counts as a connection that works"
#: kind = "K1"
#: needs = ["python3", "nft"]
#: seconds = 14
#: also = ["fin-wait1-stuck", "dead-peer-retransmit"]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: destination = "10.77.0.2:80"
#: numbers = { connections_that_work = [0.0, 0.0] }
#: never_said = ["a filter drops"]
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=500); k=[]
while 1: k.append(l.accept()[0])'
listens $S 80

bg $C python3 -c '
import socket,time,threading
k=[socket.create_connection(("10.77.0.2",80)) for i in range(8)]
time.sleep(2)
for s in k: s.sendall(b"x")
time.sleep(1)
for s in k: s.close()
def w(): socket.create_connection(("10.77.0.2",80))
for i in range(7): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1.5; filter $S "tcp dport 80"
sleep 8
ready
