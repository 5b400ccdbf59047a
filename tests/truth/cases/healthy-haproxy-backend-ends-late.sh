#: title = "haproxy passes the end of its clients on, and its backend ends its side two seconds later, each time"
#: kind = "K2"
#: needs = ["haproxy", "python3"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: healthy = true
one
printf 'defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 5s
listen f\n bind 127.0.0.1:8081\n server s 127.0.0.1:9000\n' >"$W/c"
bg $C python3 -c '
import socket,threading,time
l=socket.create_server(("127.0.0.1",9000),backlog=128)
def h(c):
    while c.recv(99): c.sendall(b"answer")
    time.sleep(2); c.close()
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $C 9000
bg $C haproxy -db -f "$W/c"
listens $C 8081
bg $C python3 -c '
import socket,random,time
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"request"); s.recv(99); time.sleep(random.random()/9); s.close(); time.sleep(random.random()/9)'
sleep 9
ready
