#: title = "threads wait in accept() of the public port, nobody accepts on the admin port of the same process"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: listener = "127.0.0.1:9201"
#: cause = "accepts-elsewhere"
#: said = ["127.0.0.1:9200"]
one
bg $C python3 -c '
import socket,threading
a=socket.create_server(("127.0.0.1",9200)); b=socket.create_server(("127.0.0.1",9201))
def w():
    while 1: a.accept()[0].close()
[threading.Thread(target=w).start() for i in range(3)]'
listens $C 9201
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",9201)) for i in range(3)]; time.sleep(60)'
sleep 4
ready
