#: title = "seen from a server with two interfaces whose strict reverse path filter drops all SYNs for its second address: no table has a row"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 8
#: look_from = "s"
#: [[expect]]
#: rule = ["reverse-path-filter"]
#: severity_at_most = "info"
pair
ip link add "w${N}c" netns "$C" type veth peer name "w${N}s" netns "$S"
ip -n "$S" addr add 10.78.0.2/24 dev "w${N}s"; ip -n "$C" link set "w${N}c" up; ip -n "$S" link set "w${N}s" up
ip -n "$C" route add 10.78.0.0/24 dev "w${N}c" src 10.77.0.1
for i in all default "v${N}s" "w${N}s"; do ip netns exec "$S" sysctl -qw "net.ipv4.conf.$i.rp_filter=1"; done
mac=$(ip -n "$S" -j link show "w${N}s" | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["address"])')
ip -n "$C" neigh replace 10.78.0.2 lladdr "$mac" dev "w${N}c"
bg $S python3 -c '
import socket
l=socket.create_server(("0.0.0.0",8080))
while 1: l.accept()'
listens $S 8080
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: socket.create_connection(("10.78.0.2",8080),timeout=1.5)
        except OSError: pass
for i in range(4): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 2
ready
