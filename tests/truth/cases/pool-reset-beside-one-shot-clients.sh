#: title = "a server resets the connections of a pool, one after another, beside a program that opens one connection at a time"
#: kind = "K2"
#: needs = ["/usr/bin/python3"]
#: seconds = 9
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "python3"
#: destination = "10.77.0.2:8080"
#: never_said = ["bash"]
pair
bg $S /usr/bin/python3 -c '
import socket,struct,threading,time
l=socket.create_server(("10.77.0.2",8080),backlog=256); pool=[]
def cut():
    while len(pool)<200: time.sleep(.1)
    for s in pool: s.close(); time.sleep(.06)
threading.Thread(target=cut,daemon=True).start()
while 1:
    s,_=l.accept(); word=s.recv(9); s.sendall(b"an answer")
    s.setsockopt(socket.SOL_SOCKET,socket.SO_LINGER,struct.pack("ii",word==b"pool",0))
    if word==b"pool": pool.append(s)
    else: s.close()'
listens $S 8080
bg $C /usr/bin/python3 -c '
import select,socket
pool=[]
for _ in range(200):
    s=socket.create_connection(("10.77.0.2",8080)); s.sendall(b"pool"); s.recv(99); pool.append(s)
while pool:
    for s in select.select(pool,[],[])[0]: pool.remove(s); s.close()'
bg $C bash -c 'while :; do exec 3<>/dev/tcp/10.77.0.2/8080; printf once >&3; read -r -N 9 -u 3 _; exec 3>&-; sleep .3; done'
sleep 2
ready
