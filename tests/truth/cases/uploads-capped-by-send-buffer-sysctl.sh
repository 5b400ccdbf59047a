#: title = "uploads over a path of 120 ms crawl: tcp_wmem of the sending host ends at 32 KiB"
#: kind = "K4"
#: needs = ["nc", "python3"]
#: seconds = 18
#: look_from = "c"
#: [[expect]]
#: rule = ["sndbuf-limited"]
#: comm = "nc"
#: cause = "buffer-at-limit"
wire 60 0 0
ip netns exec $C sysctl -qw net.ipv4.tcp_wmem="4096 16384 32768"
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",9000),backlog=64)
def h(s):
    try:
        while s.recv(1<<18): pass
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 9000
head -c 200000000 /dev/zero >"$W/f"
for i in 1 2 3; do bg $C bash -c "cat $W/f | nc 10.77.0.2 9000"; done
sleep 12
ready
