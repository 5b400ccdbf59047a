#: title = "memcached is stopped (SIGSTOP); its clients have sent requests and wait"
#: kind = "K2"
#: needs = ["memcached", "python3"]
#: seconds = 14
#: look_from = "s"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "memcached"
#: cause = "stopped"
#: severity_at_least = "warning"
pair
bg $S memcached -u nobody -l 10.77.0.2
listens $S 11211
bg $C python3 -c '
import socket,time
k=[]
for i in range(10):
    s=socket.create_connection(("10.77.0.2",11211)); s.sendall(b"get x\r\n"); s.recv(99); k.append(s)
time.sleep(1)
for s in k: s.sendall(b"get x\r\n")
time.sleep(60)'
sleep 0.7
kill -STOP $(ip netns pids $S | while read -r p; do [ "$(cat /proc/$p/comm)" = memcached ] && echo $p; done)
sleep 8
ready
