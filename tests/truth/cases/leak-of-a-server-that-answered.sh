#: title = "a threaded server answers, its clients close, and it keeps every connection"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: cause = "leak"
#: severity_at_least = "warning"
pair; ulimit -n 1024
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",8000),backlog=128); kept=[]
def h(c):
    c.recv(100); c.sendall(b"ok"); c.recv(100); kept.append(c)
while 1: threading.Thread(target=h,args=(l.accept()[0],)).start()'
listens $S 8000
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"q"); s.recv(10); s.close(); time.sleep(0.08)'
sleep 5
ready
