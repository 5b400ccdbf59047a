#: title = "a server starts a program for each request, which inherits the connection and keeps it when the server has closed it"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["close-wait-inherited-fd"]
#: comm = "sleep"
#: listener = "10.77.0.2:2000"
#: severity_at_least = "warning"
#: never_said = ["python3 keep"]
pair
bg $S python3 -c '
import socket,subprocess,signal
signal.signal(signal.SIGCHLD,signal.SIG_IGN)
l=socket.create_server(("10.77.0.2",2000),backlog=128)
while 1:
    c=l.accept()[0]; c.set_inheritable(True); c.recv(9); c.sendall(b"answer")
    subprocess.Popen(["sleep","'"${helper_seconds:-300}"'"],close_fds=False); c.close()'
listens $S 2000
bg $C python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",2000)); s.sendall(b"request"); s.recv(9); s.close(); time.sleep(.2)'
sleep 5.5
ready
