#: title = "a cloned machine came up with the redis server's address: connections are reset, then refused for seconds, then work again"
#: kind = "K2"
#: needs = ["redis-server", "redis-cli", "python3"]
#: seconds = 22
#: look_from = "c"
#: doctor = [["--interval", "7s"]]
#: also = ["reset-source"]
#: [[expect]]
#: rule = ["connect-failures"]
#: destination = "10.77.0.2:6379"
#: never_cause = ["refused"]
#: severity_at_least = "warning"
I=${N}i; R=${N}r
cleanup() { ip netns pids "$I" 2>/dev/null | xargs -r kill -9 2>/dev/null; ip netns del "$I" 2>/dev/null; }
netns "$C"; netns "$S"; netns "$I"; netns "$R"
ip -n "$R" link add br0 type bridge; ip -n "$R" link set br0 up
plug() {
    ip link add "v${N}$2" netns "$1" type veth peer name "w${N}$2" netns "$R"
    ip -n "$R" link set "w${N}$2" master br0; ip -n "$R" link set "w${N}$2" up
    ip -n "$1" addr add "$3/24" dev "v${N}$2"; ip -n "$1" link set "v${N}$2" up
}
plug "$C" c 10.77.0.1; plug "$S" s 10.77.0.2; plug "$I" i 10.77.0.2
bg $S redis-server --bind 10.77.0.2 --port 6379 --save '' --appendonly no --protected-mode no --dir "$W"
listens $S 6379
for i in 1 2 3 4 5 6; do bg $C bash -c 'while :; do redis-cli -h 10.77.0.2 -r -1 -i 0.1 incr k; sleep 0.2; done'; done
sleep 2
# Each of the two asks for a neighbour now and then, as any host does; each question tells the client its own MAC.
cat >"$W/ask.py" <<'P'
import socket,subprocess,sys,time
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); time.sleep(float(sys.argv[1]))
while 1:
    subprocess.run(["ip","neigh","flush","to","10.77.0.1"]); u.sendto(b"x",("10.77.0.1",514)); time.sleep(6)
P
bg $I python3 "$W/ask.py" 0
bg $S python3 "$W/ask.py" 3
sleep 15
ready
