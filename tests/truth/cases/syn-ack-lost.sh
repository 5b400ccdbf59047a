#: title = "SYN-ACKs do not reach the client: SYN_RECV repeats"
#: kind = "K7"
#: needs = ["python3", "nft"]
#: seconds = 20
#: look_from = "s"
#: [[expect]]
#: rule = ["syn-ack-unanswered"]
#: listener = "10.77.0.2:80"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=500); k=[]
while 1: k.append(l.accept()[0])'
listens $S 80

filter $C "tcp sport 80"
bg $C python3 -c '
import socket,threading
for i in range(12): threading.Thread(target=lambda: socket.create_connection(("10.77.0.2",80))).start()'
sleep 14
ready
