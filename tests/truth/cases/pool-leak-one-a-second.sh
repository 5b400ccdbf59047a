#: title = "a client takes a connection of redis for each job, once a second, and gives none back"
#: kind = "K7"
#: needs = ["redis-server", "python3"]
#: seconds = 36
#: times = 2
#: [[expect]]
#: rule = ["connection-pool-growth"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "not-given-back"
#: severity_at_most = "warning"
#: [expect.numbers]
#: closed = [0, 0]
#: opened_per_second = [0.5, 2.1]
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379
bg $C python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.77.0.2",6379)); s.sendall(b"PING\r\n"); s.recv(99); k.append(s); time.sleep(0.9)'
sleep 28
ready
