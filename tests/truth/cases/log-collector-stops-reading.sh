#: title = "a server writes its log to a collector that reads no more; its one thread stands in send(), and clients wait for accept()"
#: kind = "K2"
#: needs = ["/usr/bin/python3", "curl"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: listener = "10.77.0.2:8000"
#: cause = "waits-for-service"
#: never_cause = ["workers-busy", "loop-stuck"]
#: said = ["waits until 10.77.0.1:5140 takes its data"]
#: severity_at_least = "high"
pair
bg $C python3 -c '
import socket, time
s = socket.create_server(("10.77.0.1", 5140)).accept()[0]
s.recv(1000); time.sleep(900)'
listens $C 5140
bg $S python3 -c '
import socket
log = socket.create_connection(("10.77.0.1", 5140)); l = socket.create_server(("10.77.0.2", 8000))
while 1:
    s = l.accept()[0]; s.recv(1000); log.sendall(b"GET / 200\n" * 20000)
    s.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"); s.close()'
listens $S 8000
bg $C bash -c 'for i in $(seq 60); do curl -s -m 300 -o /dev/null http://10.77.0.2:8000/ & sleep 0.05; done; wait'
sleep 6
ready
