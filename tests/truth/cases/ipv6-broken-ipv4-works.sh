#: title = "IPv6 segments vanish on the way, IPv4 to the same port works"
#: kind = "K2"
#: needs = ["curl", "python3", "nft"]
#: seconds = 13
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "curl"
#: cause = "address-family-broken"
#: never_cause = ["host-down", "port-filtered"]
pair
bg $S python3 -c '
import socket,threading
l=socket.create_server(("::",8080),family=socket.AF_INET6,dualstack_ipv6=True,backlog=99)
def h(s):
    s.recv(9999); s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while 1: s.sendall(b"x"*100); __import__("time").sleep(.3)
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 8080; filter $S "meta nfproto ipv6 tcp dport 8080"
for i in 1 2 3; do bg $C curl -sN -m 60 http://10.77.0.2:8080/ -o /dev/null; done
for i in 1 2; do bg $C curl -sN -6 -m 60 "http://[fd77::2]:8080/" -o /dev/null; done
sleep 5
ready
