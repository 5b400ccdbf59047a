#: title = "sixteen workers have had their jobs from one redis list, and wait for more (BLPOP): nothing to do is no fault"
#: kind = "K4"
#: needs = ["redis-server", "python3"]
#: seconds = 22
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379; sleep 0.2
bg $C python3 -c '
import socket,threading,time,random
def f():
    s=socket.create_connection(("10.77.0.2",6379))
    while 1: s.sendall(b"BLPOP q 0\r\n"); s.recv(99); time.sleep(random.random()/5)
for _ in range(16): threading.Thread(target=f).start()
s=socket.create_connection(("10.77.0.2",6379))
for i in range(200): s.sendall(b"LPUSH q x\r\n"); s.recv(99); time.sleep(.02)
s.close(); time.sleep(90)'
sleep 17
ready
