#: title = "a worker starts before its redis, is refused for two seconds, and works since"
#: kind = "K5"
#: needs = ["redis-server", "python3"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $C python3 -c '
import socket,time
def w():
    while 1:
        try: return socket.create_connection(("10.77.0.2",6379))
        except OSError: time.sleep(.05)
k=[w() for i in range(5)]
while 1:
    for s in k: s.sendall(b"PING\r\n"); s.recv(99)
    time.sleep(.2)'
sleep 2
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379
sleep 1.5
ready
