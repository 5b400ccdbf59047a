#: title = "haproxy passes the end of its clients on, and its backend ends its side two seconds later, each time"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: healthy = true
one
bg $C python3 -c '
import socket,threading,time
l=socket.create_server(("127.0.0.1",9000),backlog=128)
def h(c):
    while c.recv(99): c.sendall(b"answer")
    time.sleep(2); c.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $C 9000
relay 127.0.0.1:9000
sleep 9
ready
