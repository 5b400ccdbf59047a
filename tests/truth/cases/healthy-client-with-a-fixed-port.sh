#: title = "a client binds a fixed port with SO_REUSEADDR and comes back with it every half second"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",80),backlog=64)
while 1:
    c=l.accept()[0]; c.recv(9); c.close()'
listens $S 80
bg $C python3 -c '
import socket,time
while 1:
    for port in range(40000,40020):
        s=socket.socket(); s.setsockopt(1,2,1); s.bind(("10.77.0.1",port))
        try: s.connect(("10.77.0.2",80)); s.send(b"x"); s.recv(9)
        except OSError: pass
        s.close()
    time.sleep(.5)'
sleep 3
ready
