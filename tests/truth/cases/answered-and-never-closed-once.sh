#: title = "a server answers, reads the end of each connection, and closes none: one look"
#: kind = "K3"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: doctor = [["--once"]]
#: [[expect]]
#: rule = ["close-wait-leak"]
#: comm = "python3"
#: listener = "10.77.0.2:8000"
#: severity_at_most = "info"
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8000),backlog=50); keep=[]
while 1:
    s=l.accept()[0]; s.recv(99); s.sendall(b"ok"); s.recv(99); keep.append(s)'
listens $S 8000
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8000)); s.sendall(b"hi"); s.recv(9); s.close(); time.sleep(.1)'
sleep 10
ready
