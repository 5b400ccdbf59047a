#: title = "an old instance of a server shares the port with the new one (SO_REUSEPORT), and closes whatever it gets without an answer"
#: kind = "K6"
#: needs = ["/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "oldsrv"
#: listener = "10.77.0.2:8080"
#: said = ["one of 2 processes"]
#: never_cause = ["worker-dies", "no-answer-due"]
#: severity_at_least = "warning"
pair
for n in newsrv oldsrv; do
    ln -s /usr/bin/python3 "$W/$n"
    bg $S "$W/$n" -c '
import socket,sys
s=socket.socket(); s.setsockopt(1,15,1); s.bind(("10.77.0.2",8080)); s.listen(32)
while 1:
    c=s.accept()[0]; c.recv(4096)
    if sys.argv[1]=="newsrv": c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok")
    c.close()' $n
    listens $S 8080; sleep 0.3
done
bg $C /usr/bin/python3 -c '
import socket,time
while 1:
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while s.recv(999): pass
    s.close(); time.sleep(.05)'
sleep 3
ready
