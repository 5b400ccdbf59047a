#: title = "a reader that takes 64 KiB every 5 s reads, however old the last segment is"
#: kind = "K1"
#: needs = ["python3"]
#: seconds = 40
#: doctor = [[], ["--once"]]
#: times = 4
#: healthy = true
one
bg $C python3 -c '
import socket,time,threading
l=socket.create_server(("127.0.0.1",9000))
c=socket.create_connection(("127.0.0.1",9000)); s,_=l.accept()
c.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,8<<20)
threading.Thread(target=lambda: s.sendall(b"x"*2000000),daemon=True).start(); time.sleep(1)
while 1: c.recv(65536); time.sleep(5)'
sleep 26
ready
