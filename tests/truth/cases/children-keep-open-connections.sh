#: title = "a server answers and closes, but a program that it started for each request has a copy: clients wait for the end in vain"
#: kind = "K7"
#: needs = ["/usr/bin/python3"]
#: seconds = 16
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-inherited-fd"]
#: comm = "sleep"
#: listener = "10.77.0.2:8080"
#: said = ["no FIN was sent"]
#: severity_at_least = "warning"
#: never_said = ["python3 keep"]
pair
bg $S /usr/bin/python3 -c '
import socket,subprocess
l=socket.create_server(("10.77.0.2",8080),backlog=50)
while 1:
    c=l.accept()[0]; c.set_inheritable(True); c.recv(4096)
    subprocess.Popen(["sleep","600"],close_fds=False); c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok"); c.close()'
listens $S 8080
for i in 1 2 3 4 5 6; do bg $C /usr/bin/python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
while s.recv(999): pass'; done
sleep 8
ready
