#: title = "half-closed jobs that take 60 s begin to come, five a second"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 15
#: look_from = "s"
#: healthy = true
pair; ulimit -n 1024
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("10.77.0.2",9100),backlog=50)
def job(c):
    while c.recv(65536): pass
    time.sleep(60); c.sendall(b"done"); c.close()
while 1: threading.Thread(target=job,args=(l.accept()[0],)).start()'
listens $S 9100
bg $C python3 -c '
import socket,time
k=[]
while 1:
    s=socket.create_connection(("10.77.0.2",9100)); s.sendall(b"j"*1000); s.shutdown(1); k.append(s); time.sleep(.2)'
sleep 10
ready
