#: title = "an upload on an uplink of 40 Mbit/s with pings beside it: the queue is felt, and below a second"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 12
#: healthy = true
wire 20 0 0 40000; ip netns exec $C sysctl -qw net.ipv4.tcp_congestion_control=reno
bg $S python3 -c '
import socket,threading
l=socket.create_server(("10.77.0.2",80))
def h(s):
    while m:=s.recv(65536):
        if len(m)<9: s.sendall(m)
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
listens $S 80
bg $C python3 -c '
import socket,threading,time
s=socket.create_connection(("10.77.0.2",80))
def ping():
    while 1: s.sendall(b"PING"); s.recv(9); time.sleep(.05)
threading.Thread(target=ping,daemon=True).start()
b=socket.create_connection(("10.77.0.2",80)); b.setsockopt(1,7,1000000)
while 1: b.sendall(b"x"*65536)'
sleep 5
ready
