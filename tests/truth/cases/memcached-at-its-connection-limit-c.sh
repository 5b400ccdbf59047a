#: title = "memcached is at its own limit of connections (-c) and accepts no more; new clients wait in its queue, later ones get no answer to the SYN"
#: kind = "K2"
#: needs = ["memcached", "python3"]
#: seconds = 14
#: doctor = [[], ["--once"]]
#: also = ["no-answer", "connect-failures", "dead-peer-retransmit"]
#: [[expect]]
#: rule = ["syn-sent-pileup"]
#: comm = "python3"
#: destination = "10.77.0.2:11211"
#: cause = "peer-accept-queue-full"
#: never_cause = ["host-down", "port-filtered", "lossy-path"]
pair
ip netns exec $S sysctl -qw net.core.somaxconn=3
bg $S memcached -u nobody -l 10.77.0.2 -p 11211 -c 16 -t 1 -o no_maxconns_fast
listens $S 11211
# Those that are served and kept, those that fill the queue, and after a while those that come too late.
bg $C python3 -c '
import socket,time
k=[]
def ask(wait):
    s=socket.socket(); s.settimeout(wait)
    try:
        s.connect(("10.77.0.2",11211)); s.sendall(b"version\r\n"); s.recv(99)
    except OSError: pass
    s.settimeout(None); k.append(s)
for i in range(24): ask(0.2)
time.sleep(99)'
sleep 4
for i in 1 2 3; do
    bg $C python3 -c '
import socket
s=socket.create_connection(("10.77.0.2",11211),60)'
done
sleep 5
ready
