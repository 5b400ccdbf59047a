#!/usr/bin/env bash
# Makes docs/pictures/watch.svg: the screen of a real `tcpstate watch`, in a private network namespace with three programs
# that open, close and forget connections. Needs unshare (util-linux), ip (iproute2) and python3; takes half a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --quiet
tcpstate=${CARGO_TARGET_DIR:-target}/release/tcpstate
user=()
[ "$(id -u)" = 0 ] || user=(--map-root-user)
unshare "${user[@]}" --net --uts bash -euo pipefail -c '
hostname web3
ip link set lo up
ip address add 10.0.0.5/24 dev lo
ip address add 10.0.0.9/24 dev lo
programs=$(mktemp)
cat > "$programs" <<"PYTHON"
import os, socket, sys, threading, time

def serve(port, forget):
    listener = socket.create_server(("10.0.0.5", port), backlog=512)
    kept = []
    while True:
        peer, _ = listener.accept()
        if forget:
            kept.append(peer)
        else:
            threading.Thread(target=lambda s: (s.recv(1), s.close()), args=(peer,), daemon=True).start()

def call(port, every, life):
    while True:
        s = socket.create_connection(("10.0.0.5", port), source_address=("10.0.0.9", 0))
        threading.Timer(life, s.close).start()
        time.sleep(every)

role, port = sys.argv[1], int(sys.argv[2])
open("/proc/self/comm", "w").write(role)
if sys.argv[3] == "serve":
    serve(port, False)
elif sys.argv[3] == "forget":
    serve(port, True)
else:
    call(port, float(sys.argv[4]), float(sys.argv[5]))
PYTHON
for line in "edge 443 serve" "orders 8080 forget"; do python3 "$programs" $line & done
sleep 1
for line in "checkout 443 call 0.01 0.3" "sessions 443 call 0.2 30" "reports 8080 call 0.25 0.5"; do
    python3 "$programs" $line &
done
"$0" watch --interval 500ms --count 50 --screenshot-size 132x24 --screenshot-svg docs/pictures/watch.svg
"$0" watch --interval 500ms --count 6 --screenshot-size 86x24 --screenshot-keys m --screenshot-svg docs/pictures/machine.svg
kill $(jobs -p)
rm "$programs"
' "$tcpstate"
