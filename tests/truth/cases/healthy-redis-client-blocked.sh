#: title = "a consumer waits in BLPOP for a minute, a subscriber reads one message in five seconds"
#: kind = "K4"
#: needs = ["python3", "redis-server"]
#: seconds = 24
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --port 6379 --bind 10.77.0.2 --protected-mode no --save '' --daemonize no; listens $S 6379
bg $C python3 -c '
import socket,time,threading
c=lambda: socket.create_connection(("10.77.0.2",6379))
a=c(); a.sendall(b"BLPOP q 60\r\n")
b=c(); b.sendall(b"SUBSCRIBE news\r\n")
p=c()
def publish():
    while 1: p.sendall(b"PUBLISH news "+b"x"*2000+b"\r\n"); p.recv(100); time.sleep(0.2)
threading.Thread(target=publish,daemon=True).start()
f=b.makefile("rb",buffering=0)
while 1: f.read(2030); time.sleep(5)'
sleep 13
ready
