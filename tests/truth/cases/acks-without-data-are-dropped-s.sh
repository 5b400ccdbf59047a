#: title = "a firewall on the way drops ACKs without data: clients believe to be connected and wait for the banner, the server repeats its SYN-ACKs"
#: kind = "K3"
#: needs = ["python3", "nft"]
#: seconds = 9
#: look_from = "s"
#: nobody = true
#: [[expect]]
#: rule = ["syn-ack-unanswered"]
#: severity_at_least = "warning"
routed
ip netns exec "$R" nft "add table ip f; add chain ip f w { type filter hook forward priority 0; }; add rule ip f w ip daddr 10.77.2.2 tcp flags & (syn|ack|fin|rst|psh) == ack meta length < 80 drop"
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.2.2",2525))
while 1: c,_=l.accept(); c.sendall(b"220 ready\r\n")'
listens $S 2525
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: c=socket.create_connection(("10.77.2.2",2525),timeout=6); c.recv(99)
        except OSError: pass
for i in range(5): threading.Thread(target=w,daemon=True).start()
time.sleep(60)'
sleep 1.5
ready
