#: title = "the control group of a receiver may use 128 KiB of TCP memory (version 1): segments are dropped beside empty buffers"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: also = ["recv-queue-stuck"]
#: [[expect]]
#: rule = ["rcvbuf-pruning"]
#: comm = "python3"
#: cause = "group-memory"
#: never_said = ["because the receive buffer was full"]
pair; G=$W/memory/$N; mkdir -p "$W/memory"
mount -t cgroup -o memory memory "$W/memory"; mkdir "$G"; echo 131072 >"$G/memory.kmem.tcp.limit_in_bytes"
cleanup() { for _ in 1 2 3 4 5; do rmdir "$G" 2>/dev/null && break; sleep 0.2; done; umount "$W/memory"; }
bg $S bash -c "echo \$\$ >$G/cgroup.procs; exec python3 -c '
import socket,threading
l=socket.create_server((\"10.77.0.2\",9000))
def h(s):
    while s.recv(1<<20): pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'"
listens $S 9000
for i in 1 2 3 4; do bg $C python3 -c '
import socket,time
s=socket.create_connection(("10.77.0.2",9000)); b=bytes(131072)
while 1: s.sendall(b); time.sleep(0.05)'; done
sleep 4
ready
