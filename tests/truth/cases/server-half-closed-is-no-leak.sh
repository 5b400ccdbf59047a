#: title = "request and FIN, the answer takes 90 s: CLOSE_WAIT can send"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 75
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair; ulimit -n 256
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",80))
def h(s):
    while s.recv(1000): pass
    time.sleep(90); s.sendall(b"result"); s.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket
k=[socket.create_connection(("10.77.0.2",80)) for i in range(5)]
for s in k: s.sendall(b"job"); s.shutdown(1)
for s in k: s.recv(10)'
sleep 66
ready
