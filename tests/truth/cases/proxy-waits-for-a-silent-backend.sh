#: title = "a proxy passes each request on to a backend that reads it and never answers; its clients give up after 6 s; seen from the proxy"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: also = ["no-answer"]
#: [[expect]]
#: rule = ["answers-owed"]
#: listener = "10.77.0.2:8080"
#: cause = "upstream"
#: said = ["10.77.0.1:9000"]
#: severity_at_least = "warning"
pair
bg $C python3 -c '
import socket
l=socket.create_server(("10.77.0.1",9000),backlog=64); k=[]
while 1: c,_=l.accept(); c.recv(99); k.append(c)'
listens $C 9000
bg $S python3 -c '
import selectors,socket
l=socket.create_server(("10.77.0.2",8080),backlog=64); l.setblocking(False)
m=selectors.DefaultSelector(); m.register(l,1)
def end(a,b): [(m.unregister(x),x.close()) for x in (a,b)]
while 1:
    for k,_ in m.select():
        if k.fileobj is l:
            c,_=l.accept(); u=socket.create_connection(("10.77.0.1",9000)); m.register(c,1,u); m.register(u,1,c); continue
        d=k.fileobj.recv(99) if k.fileobj.fileno()>=0 else None
        if d: k.data.sendall(d)
        elif d==b"": end(k.fileobj,k.data)'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def ask(n):
    s=socket.create_connection(("10.77.0.2",8080)); s.settimeout(n); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    try: s.recv(9)
    except OSError: pass
    s.close()
while 1: threading.Thread(target=ask,args=(6,)).start(); time.sleep(.2)'
sleep 8
ready
