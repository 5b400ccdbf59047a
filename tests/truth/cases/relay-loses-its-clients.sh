#: title = "a relay passes the end of its clients on, its backend closes, and the relay never closes its clients"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 14
#: also = ["fin-wait2-orphan-pileup"]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: listener = ":8081"
#: cause = "leak"
#: never_said = ["waits for"]
one
bg $C python3 -c '
import socket,threading
l=socket.create_server(("127.0.0.1",9000),backlog=128)
def h(c):
    while c.recv(99): c.sendall(b"answer")
    c.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $C 9000
bg $C python3 -c '
import socket,threading
l=socket.create_server(("127.0.0.1",8081),backlog=128); k=[]
def h(c):
    b=socket.create_connection(("127.0.0.1",9000)); k.append(c)
    while d:=c.recv(99): b.sendall(d); c.sendall(b.recv(99))
    b.shutdown(1); b.recv(9); b.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $C 8081
bg $C python3 -c '
import socket,random,time
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"request"); s.recv(99); time.sleep(random.random()/9); s.close(); time.sleep(random.random()/9)'
sleep 7
ready
