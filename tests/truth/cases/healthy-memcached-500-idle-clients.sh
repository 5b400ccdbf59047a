#: title = "memcached with five hundred idle client connections"
#: kind = "K4"
#: needs = ["memcached", "python3"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S memcached -u nobody -l 10.77.0.2 -c 1024
listens $S 11211
bg $C python3 -c '
import socket,time
k=[]
for i in range(500):
    s=socket.create_connection(("10.77.0.2",11211)); s.sendall(b"get x\r\n"); s.recv(99); k.append(s)
time.sleep(60)'
sleep 2.5
ready
