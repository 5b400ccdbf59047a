#: title = "a server takes 0.15 s for each client, one after the other; 15 come in a second, and its queue of 4 stays full"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 10
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-overflow"]
#: comm = "python3"
#: listener = "10.77.0.2:8080"
#: cause = "accepts-too-slow"
#: severity_at_least = "high"
pair
bg $S python3 -c '
import socket,time
l=socket.socket(); l.setsockopt(1,2,1); l.bind(("10.77.0.2",8080)); l.listen(4)
while 1: c,_=l.accept(); c.recv(99); time.sleep(0.15); c.sendall(b"ok"); c.close()'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def one():
    try: s=socket.create_connection(("10.77.0.2",8080),9); s.sendall(b"x"); s.recv(9); s.close()
    except OSError: pass
while 1: threading.Thread(target=one,daemon=True).start(); time.sleep(1/15)'
sleep 5
ready
