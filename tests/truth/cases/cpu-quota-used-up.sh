#: title = "the CPU quota of a server's control group is used up: it answers slowly and its queue stands"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 14
#: look_from = "s"
#: also = ["accept-queue-overflow", "recv-queue-stuck", "listener-drops-since-open", "close-wait-unaccepted"]
#: [[expect]]
#: rule = ["accept-queue-stalled", "accept-queue-overflow"]
#: comm = "python3"
#: listener = "10.77.0.2:8080"
#: cause = "cpu-throttled"
#: said = ["quota"]
pair
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    G=/sys/fs/cgroup/$N; mkdir "$G"; echo +cpu >/sys/fs/cgroup/cgroup.subtree_control; echo "2000 100000" >"$G/cpu.max"
else
    M=; G=/sys/fs/cgroup/cpu/$N
    # The program sees no groups below its own /sys.
    mkdir "$G" 2>/dev/null || { mkdir -p "$W/cpu"; M=$W/cpu; G=$M/$N
        mount -t cgroup -o cpu,cpuacct cpu "$M" 2>/dev/null || mount -t cgroup -o cpu cpu "$M"; mkdir "$G"; }
    echo 100000 >"$G/cpu.cfs_period_us"; echo 2000 >"$G/cpu.cfs_quota_us"
fi
cleanup() { for _ in 1 2 3 4 5; do rmdir "$G" 2>/dev/null && break; sleep 0.2; done; [ -z "$M" ] || umount "$M"; }
bg $S python3 -c '
import socket
l=socket.create_server(("10.77.0.2",8080),backlog=64)
while 1:
    c,a=l.accept(); n=sum(i*i for i in range(60000)); c.sendall(b"x"); c.close()'
listens $S 8080
for p in $(ip netns pids $S); do echo "$p" >"$G/cgroup.procs"; done
bg $C python3 -c '
import socket,threading,time
def w():
    while 1:
        try: s=socket.create_connection(("10.77.0.2",8080),20); s.recv(1); s.close()
        except OSError: pass
[threading.Thread(target=w,daemon=True).start() for i in range(24)]
time.sleep(60)'
sleep 8
ready
