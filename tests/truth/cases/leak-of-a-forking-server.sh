#: title = "the parent of a forking server never closes its copy of what it accepted"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: severity_at_least = "warning"
pair; ulimit -n 1024
bg $S python3 -c '
import socket,os,signal
signal.signal(signal.SIGCHLD,signal.SIG_IGN)
l=socket.create_server(("10.77.0.2",2000),backlog=128); kept=[]
while 1:
    c=l.accept()[0]
    if os.fork()==0:
        c.recv(100); c.sendall(b"ok"); c.recv(10); os._exit(0)
    kept.append(c)'
listens $S 2000
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",2000)); s.sendall(b"q"); s.recv(10); s.close(); time.sleep(0.05)'
sleep 5
ready
