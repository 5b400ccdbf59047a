#: title = "a threaded server takes each request, and all threads wait for one lock; clients give up after 6 s, and are not closed; seen from the server"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: also = ["close-wait-leak"]
#: [[expect]]
#: rule = ["answers-owed"]
#: comm = "python3"
#: listener = "10.77.0.2:8080"
#: cause = "program-stuck"
#: never_cause = ["upstream"]
#: severity_at_least = "warning"
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",8080),backlog=64); lock=threading.Lock(); lock.acquire()
def serve(c): c.recv(99); lock.acquire(); c.sendall(b"x"); c.close()
while 1: threading.Thread(target=serve,args=(l.accept()[0],)).start()'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def ask():
    s=socket.create_connection(("10.77.0.2",8080)); s.settimeout(6); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    try: s.recv(9)
    except OSError: pass
    s.close()
while 1: threading.Thread(target=ask).start(); time.sleep(.25)'
sleep 9
ready
