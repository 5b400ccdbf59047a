#: title = "a balancer sends every other connect to a host that is gone: half work at once, half get no answer ever"
#: kind = "K2"
#: needs = ["nginx", "python3", "iptables"]
#: seconds = 15
#: also = ["connect-failures"]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.88.0.100:80"
#: severity_at_least = "warning"
#: cause = "one-backend-down"
#: never_cause = ["nat-exhausted", "lossy-path", "host-down", "port-filtered"]
routed
ip -n $R neigh add 10.77.2.7 lladdr 02:00:00:00:00:77 dev "v${N}y" nud permanent
ip netns exec $R iptables -t nat -A PREROUTING -d 10.88.0.100 -p tcp --dport 80 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to 10.77.2.7:80
ip netns exec $R iptables -t nat -A PREROUTING -d 10.88.0.100 -p tcp --dport 80 -j DNAT --to 10.77.2.2:80
printf 'daemon off;\npid %s/p;\nerror_log /dev/null;\nevents {}\nhttp { access_log off; server { listen 10.77.2.2:80; return 200 ok; } }\n' "$W" >"$W/c"
bg $S nginx -c "$W/c"
listens $S 80
bg $C python3 -c '
import socket,threading,time
def f():
    try: c=socket.create_connection(("10.88.0.100",80),timeout=60); c.sendall(b"GET / HTTP/1.0\r\n\r\n"); c.recv(999)
    except OSError: pass
while 1: threading.Thread(target=f,daemon=True).start(); time.sleep(.25)'
sleep 8
ready
