#: title = "a stream consumer with a bounded queue: its reader thread waits for the worker, which takes 20 s for a batch; seen from the sender"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 30
#: look_from = "s"
#: doctor = [[], ["--once"], ["--interval", "5s"]]
#: healthy = true
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",9092))
def h(s):
    while 1: s.sendall(b"m"*1000)
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 9092
bg $C python3 -c '
import socket,threading,queue,time
q=queue.Queue(500)
def read():
    s=socket.create_connection(("10.77.0.2",9092))
    while 1: q.put(s.recv(1000))
threading.Thread(target=read,daemon=True).start()
while 1:
    for i in range(500): q.get()
    time.sleep(20)'
sleep 16
ready
