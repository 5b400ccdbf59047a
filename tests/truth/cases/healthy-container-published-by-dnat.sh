#: title = "a host publishes the port of a container by DNAT; clients keep connections and make short ones"
#: kind = "K2"
#: needs = ["nginx", "iptables", "python3"]
#: seconds = 9
#: healthy = true
pair; netns ${N}r
ip link add "v${N}x" netns $S type veth peer name "v${N}y" netns ${N}r
ip -n $S addr add 10.88.0.1/24 dev "v${N}x"; ip -n ${N}r addr add 10.88.0.2/24 dev "v${N}y"
ip -n $S link set "v${N}x" up; ip -n ${N}r link set "v${N}y" up; ip -n ${N}r route add default via 10.88.0.1
ip netns exec $S sysctl -qw net.ipv4.ip_forward=1
ip netns exec $S iptables -t nat -A PREROUTING -p tcp -d 10.77.0.2 --dport 8080 -j DNAT --to-destination 10.88.0.2:80
cat >"$W/n.conf" <<A
user root; daemon off; worker_processes 1; error_log $W/e; pid $W/pid; events { worker_connections 512; }
http { access_log off; server { listen 80; return 200 ok; } }
A
bg ${N}r nginx -c "$W/n.conf"
listens ${N}r 80
bg $C python3 -c '
import http.client,time
k=[http.client.HTTPConnection("10.77.0.2",8080) for i in range(6)]
while 1:
    for h in k: h.request("GET","/"); h.getresponse().read()
    h=http.client.HTTPConnection("10.77.0.2",8080); h.request("GET","/"); h.getresponse().read(); h.close()
    time.sleep(.1)'
sleep 2.5
ready
