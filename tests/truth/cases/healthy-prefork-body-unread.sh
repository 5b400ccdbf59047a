#: title = "prefork workers answer a POST after 20 s and never read its body"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 19
#: doctor = [[], ["--once"]]
#: healthy = true
one
bg $C python3 -c '
import socket,os,subprocess,time
l=socket.create_server(("127.0.0.1",8000))
for i in range(4):
    if os.fork()==0:
        while 1:
            s,_=l.accept(); s.recv(120)
            subprocess.run(["sleep","20"]) if i%2 else time.sleep(20)
            s.sendall(b"HTTP/1.1 200 OK\r\n\r\n"); s.close()
time.sleep(60)'
listens $C 8000
for i in 1 2 3 4; do bg $C python3 -c '
import socket
s=socket.create_connection(("127.0.0.1",8000)); s.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3000\r\n\r\n"+b"b"*3000); s.recv(100)'; done
sleep 12
ready
