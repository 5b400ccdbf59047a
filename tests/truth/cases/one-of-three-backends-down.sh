#: title = "haproxy has three backends, one of which vanished from the network"
#: kind = "K2"
#: needs = ["haproxy", "python3", "nft", "curl"]
#: seconds = 14
#: also = ["connect-failures", "dead-peer-retransmit"]
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "haproxy"
#: destination = "10.77.0.12:9000"
#: cause = "one-backend-down"
#: never_cause = ["peer-accept-queue-full", "local-drop"]
pair
for a in 11 12 13; do ip -n $S addr add 10.77.0.$a/24 dev v${N}s; done
bg $S python3 -c '
import socket,threading,time
l=socket.create_server(("0.0.0.0",9000),backlog=200)
def h(s):
    try:
        while s.recv(9999): time.sleep(.05); s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 9000; filter $S "ip daddr 10.77.0.12"
cat >$W/h.cfg <<X
defaults
  mode http
  timeout connect 20s
  timeout client 60s
  timeout server 60s
  retries 0
listen l
  bind 127.0.0.1:8000
  balance roundrobin
  server a 10.77.0.11:9000
  server b 10.77.0.12:9000
  server c 10.77.0.13:9000
X
bg $C haproxy -db -f $W/h.cfg; listens $C 8000
bg $C bash -c 'for i in 1 2 3 4 5 6; do (while :; do curl -s -m 30 -o /dev/null http://127.0.0.1:8000/; done) & done; wait'
sleep 7
ready
