#: title = "a path that loses SYNs now and then, other connections to the same port work"
#: kind = "K2"
#: needs = ["python3", "curl", "iptables"]
#: seconds = 20
#: also = ["lossy-destination"]
#: [[expect]]
#: rule = ["syn-sent-pileup", "connect-failures", "lossy-destination"]
#: never_cause = ["host-down", "port-filtered"]
#: never_said = ["a filter drops", "host is down"]
pair
bg $S python3 -m http.server -d $W 80; listens $S 80
bg $C python3 -c "
import socket,time
l=[socket.create_connection(('10.77.0.2',80)) for i in range(20)]; time.sleep(90)"
sleep .5
ip netns exec $S iptables -A INPUT -p tcp --dport 80 --syn -m statistic --mode random --probability 0.75 -j DROP
for i in $(seq 30); do bg $C curl -s -o /dev/null -m 30 http://10.77.0.2/; done
sleep 4
ready
