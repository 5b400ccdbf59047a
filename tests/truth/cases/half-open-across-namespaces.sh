#: title = "redis came back at its address after a power loss; eight old consumers in another namespace wait on dead connections"
#: kind = "K2"
#: needs = ["redis-server", "python3"]
#: seconds = 9
#: doctor = [["--netns", "all"]]
#: [[expect]]
#: rule = ["half-open-mirror-missing"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "half-gone"
#: severity_at_least = "warning"
pair
up() { bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W" --tcp-keepalive 0; listens $S 6379; }
up
bg $C python3 -c '
import socket,time
k=[]
for i in range(8):
    s=socket.create_connection(("10.77.0.2",6379)); s.sendall(b"BLPOP q%d 0\r\n"%i); k.append(s)
time.sleep(120)'
for _ in $(seq 50); do [ "$(ip netns exec $C ss -Htn | wc -l)" = 8 ] && break; sleep 0.1; done
# The power goes: no FIN, no RST, and the host comes back with nothing.
ip -n $S link set "v${N}s" down; ip netns pids $S | xargs -r kill -9
ip -n $C link del "v${N}c"; ip netns del $S; sleep 0.5
netns "$S"
ip link add "v${N}c" netns "$C" type veth peer name "v${N}s" netns "$S"
ip -n "$C" addr add 10.77.0.1/24 dev "v${N}c"; ip -n "$S" addr add 10.77.0.2/24 dev "v${N}s"
ip -n "$C" link set "v${N}c" up; ip -n "$S" link set "v${N}s" up; sleep 1
up
bg $C python3 -c '
import socket,time
s=socket.create_connection(("10.77.0.2",6379))
while 1: s.sendall(b"PING\r\n"); s.recv(9); time.sleep(.3)'
sleep 3
ready
