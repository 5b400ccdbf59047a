#!/usr/bin/env bash
# Makes the pictures of docs/pictures: the screen of a real `tcpstate watch`, wide (watch.svg), small (small.svg) and with the
# state machine (machine.svg), in a private network namespace with programs that open, close and forget connections, and one
# that accepts nothing. Needs unshare (util-linux), ip (iproute2) and python3; takes a minute. TCPSTATE names another
# binary than the release build. With rsvg-convert (Debian: librsvg2-bin) the same as PNG, for pages that take no SVG.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${TCPSTATE:-}" ]; then
    cargo build --release --quiet
fi
tcpstate=${TCPSTATE:-${CARGO_TARGET_DIR:-target}/release/tcpstate}
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

def queue(port):
    listener = socket.create_server(("10.0.0.5", port), backlog=2)
    kept = [socket.create_connection(("10.0.0.5", port)) for _ in range(3)]
    for _ in range(4):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(("10.0.0.5", port))
        kept.append(waiting)
    time.sleep(3600)

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
elif sys.argv[3] == "queue":
    queue(port)
else:
    call(port, float(sys.argv[4]), float(sys.argv[5]))
PYTHON
for line in "edge 443 serve" "orders 8080 forget" "billing 7000 queue"; do python3 "$programs" $line & done
sleep 1
for line in "checkout 443 call 0.01 0.3" "sessions 443 call 0.2 30" "reports 8080 call 0.25 0.5"; do
    python3 "$programs" $line &
done
"$0" watch --interval 500ms --count 60 --screenshot-size 180x50 --screenshot-svg docs/pictures/watch.svg
"$0" watch --interval 500ms --count 30 --screenshot-size 80x24 --screenshot-svg docs/pictures/small.svg
"$0" watch --interval 500ms --count 12 --screenshot-size 84x24 --screenshot-keys m --screenshot-svg docs/pictures/machine.svg
kill $(jobs -p)
rm "$programs"
' "$tcpstate"
if command -v rsvg-convert > /dev/null; then
    for picture in docs/pictures/*.svg; do rsvg-convert "$picture" -o "${picture%.svg}.png"; done
else
    echo "no PNG: rsvg-convert is not installed" >&2
fi
