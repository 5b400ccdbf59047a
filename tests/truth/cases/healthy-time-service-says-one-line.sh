#: title = "a time service says one line to each of those who come and closes; nobody stays connected to it"
#: kind = "K7"
#: needs = ["socat", "/usr/bin/python3"]
#: seconds = 8
#: look_from = "s"
#: healthy = true
pair
bg $S socat TCP-LISTEN:13,bind=10.77.0.2,fork,reuseaddr EXEC:date
listens $S 13
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",13))
    while s.recv(99): pass
    s.close(); time.sleep(.2)'
sleep 3
ready
