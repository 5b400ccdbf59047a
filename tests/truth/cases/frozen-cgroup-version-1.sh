#: title = "the server's cgroup is frozen by the freezer of version 1 (docker pause on an older host)"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 9
#: also = ["accept-queue-overflow"]
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "python3"
#: cause = "frozen"
#: said = ["frozen"]
one; G=$W/freezer/$N; mkdir -p "$W/freezer"
mount -t cgroup -o freezer freezer "$W/freezer"; mkdir "$G"
cleanup() { echo THAWED >"$G/freezer.state"; for _ in 1 2 3 4 5; do rmdir "$G" 2>/dev/null && break; sleep 0.2; done; umount "$W/freezer"; }
bg $C python3 -c '
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self): self.rfile.read()
socketserver.ThreadingTCPServer(("127.0.0.1",9000),H).serve_forever()'
listens $C 9000; P=$(ip netns pids $C | head -1); echo "$P" >"$G/cgroup.procs"; echo FROZEN >"$G/freezer.state"; sleep 0.2
bg $C python3 -c '
import socket,time
k=[socket.create_connection(("127.0.0.1",9000)) for i in range(4)]; time.sleep(60)'
sleep 4
ready
