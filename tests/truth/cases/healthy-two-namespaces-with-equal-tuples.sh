#: title = "two containers have connections of the same addresses and ports; both are well"
#: kind = "K6"
#: needs = ["python3", "redis-server"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
netns $C; netns $S
for n in $C $S; do
    bg $n redis-server --bind 127.0.0.1 --save '' --dir "$W"
    listens $n 6379
    bg $n python3 -c '
import socket,time
k=[]
for p in range(40000,40010):
    s=socket.create_connection(("127.0.0.1",6379),source_address=("127.0.0.1",p)); k.append(s)
while 1:
    for s in k: s.sendall(b"PING\r\n"); s.recv(99)
    time.sleep(.2)'
done
sleep 2.5
ready
