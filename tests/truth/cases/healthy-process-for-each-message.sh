#: title = "a log service starts a process for each connection, which reads a line and closes; no answer is in the protocol"
#: kind = "K4"
#: needs = ["/usr/bin/python3"]
#: seconds = 7
#: healthy = true
#: look_from = "s"
pair
bg $S /usr/bin/python3 -c '
import os,signal,socket
signal.signal(signal.SIGCHLD,signal.SIG_IGN)
l=socket.create_server(("10.77.0.2",7777),backlog=64)
while 1:
    s,_=l.accept()
    if os.fork()==0:
        os.dup2(s.fileno(),0); os.execlp("sh","sh","-c","read line; exit")
    s.close()'
listens $S 7777
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",7777)); s.sendall(b"an event\n"); s.recv(9); s.close(); time.sleep(.01)'
sleep 1
ready
