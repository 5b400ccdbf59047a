#: title = "a service answers one program and closes the connections of another without a word"
#: kind = "K1"
#: needs = ["/usr/bin/python3"]
#: seconds = 7
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "bash"
#: destination = "10.77.0.2:8080"
#: severity_at_least = "warning"
#: never_said = ["python3"]
pair
bg $S /usr/bin/python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8080))
while 1:
    s,_=l.accept()
    if s.recv(9)!=b"wrong": s.sendall(b"x"*900)
    s.close()'
listens $S 8080
bg $C bash -c 'while :; do exec 3<>/dev/tcp/10.77.0.2/8080; printf wrong >&3; read -r -N 9 -u 3 _; exec 3>&-; sleep .1; done'
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"right"); s.recv(999); s.close(); time.sleep(.1)'
sleep 1
ready
