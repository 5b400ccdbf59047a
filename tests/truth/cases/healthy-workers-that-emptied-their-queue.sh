#: title = "six worker processes had a job every 0.3 s from one redis list, and it is empty now (BLPOP without a timeout)"
#: kind = "K4"
#: needs = ["redis-server", "python3"]
#: seconds = 22
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379; sleep 0.2
within $C python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",6379))
for i in range(150): s.sendall(b"LPUSH q x\r\n"); s.recv(99)'
for _ in 1 2 3 4 5 6; do
    bg $C python3 -c '
import socket,time
s=socket.create_connection(("10.77.0.2",6379))
while 1: s.sendall(b"BLPOP q 0\r\n"); s.recv(99); time.sleep(.3)'
done
sleep 19
ready
