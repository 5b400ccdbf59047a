#: title = "a gateway forgets connections after a second of silence and answers what comes after that with RST"
#: kind = "K2"
#: needs = ["python3", "nft"]
#: seconds = 11
#: also = ["abort-storm", "time-wait-client-churn", "path-idle-limit"]
#: [[expect]]
#: rule = ["reset-source"]
#: comm = "python3"
#: cause = "idle-cut"
#: severity_at_least = "warning"
routed
ip netns exec $R nft -f - <<'A'
table ip f {
 set live { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 1200ms; size 9999; }
 chain f {
  type filter hook forward priority 0
  tcp flags & (syn|ack) == syn update @live { ip saddr . tcp sport } accept
  tcp dport 6379 ip saddr . tcp sport @live update @live { ip saddr . tcp sport } accept
  tcp dport 6379 reject with tcp reset
  tcp sport 6379 update @live { ip daddr . tcp dport } accept
 }
}
A
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.2.2",6379),backlog=99)
def h(s):
    try:
        while m:=s.recv(99): s.sendall(m)
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 6379
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        s=socket.create_connection(("10.77.2.2",6379))
        for pause in (.1,2.4):
            try: s.sendall(b"PING"); s.recv(9)
            except OSError: break
            time.sleep(pause)
        try: s.sendall(b"PING"); s.recv(9)
        except OSError: pass
        s.close()
for i in range(16): threading.Thread(target=w,daemon=True).start(); time.sleep(.15)
time.sleep(60)'
sleep 4
ready
