#: title = "prefork server with 3 sync workers, each busy with one slow request (gunicorn sync, Apache prefork)"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: cause = "workers-busy"
#: never_cause = ["inherited-listener", "loop-stuck"]
#: severity_at_least = "high"
one
bg $C python3 -c '
import os,socket,time
l=socket.create_server(("127.0.0.1",8000),backlog=64)
for i in range(3):
    if os.fork()==0:
        while 1:
            c,a=l.accept(); c.recv(100); time.sleep(30); c.close()
while 1: os.wait()'
listens $C 8000
bg $C python3 -c '
import socket,time
k=[]
for i in range(9):
    s=socket.create_connection(("127.0.0.1",8000)); s.sendall(b"GET"); k.append(s)
time.sleep(60)'
sleep 4
ready
