#: title = "six workers in requests of 20 s, 8 bytes of the end record unread"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 18
#: doctor = [[], ["--once"]]
#: healthy = true
one
bg $C python3 -c '
import socket,os,time
l=socket.create_server(("127.0.0.1",9000))
for i in range(6):
    if os.fork()==0:
        while 1:
            s,_=l.accept(); s.recv(100); time.sleep(20); s.sendall(b"ok"); s.close()
time.sleep(60)'
listens $C 9000
for i in $(seq 6); do bg $C python3 -c '
import socket
s=socket.create_connection(("127.0.0.1",9000)); s.sendall(b"r"*100); s.sendall(b"\0"*8); s.recv(10)'; done
sleep 12
ready
