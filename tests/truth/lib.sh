# What the cases share. The runner sources this before the script, with T (the program), W (a folder of the case) and N
# (a name of its own) set. Namespaces: $C (10.77.0.1) and $S (10.77.0.2), joined by a veth pair; `one` makes $C alone.
C=${N}c; S=${N}s; K=()
netns() { ip netns add "$1" && ip -n "$1" link set lo up; }
one() { netns "$C"; }
pair() {
    netns "$C"; netns "$S"
    ip link add "v${N}c" netns "$C" type veth peer name "v${N}s" netns "$S"
    ip -n "$C" addr add 10.77.0.1/24 dev "v${N}c"; ip -n "$S" addr add 10.77.0.2/24 dev "v${N}s"
    ip -n "$C" -6 addr add fd77::1/64 dev "v${N}c" nodad; ip -n "$S" -6 addr add fd77::2/64 dev "v${N}s" nodad
    ip -n "$C" link set "v${N}c" up; ip -n "$S" link set "v${N}s" up
}
# wire MS NTH MORE [unscale | KBITS]: $C (10.77.0.1) and $S (10.77.0.2) joined by a line that takes MS each way; each NTH packet takes MORE ms
# longer; `unscale` clears the window scale of each SYN-ACK, KBITS is what it carries from $C to $S in a second, behind a queue without end.
wire() {
    netns "$C"; netns "$S"
    python3 "${BASH_SOURCE[0]%/*}/line.py" "$C" "$S" "$1" "$2" "$3" "${4:-}" </dev/null >>"$W/out" 2>&1 & K+=($!)
    for _ in $(seq 50); do ip -n "$S" link show sat0 >/dev/null 2>&1 && break; sleep 0.1; done
    ip -n "$C" addr add 10.77.0.1/24 dev sat0; ip -n "$S" addr add 10.77.0.2/24 dev sat0
    for n in "$C" "$S"; do ip -n "$n" link set sat0 txqueuelen 4000; ip -n "$n" link set sat0 up; done
}
# routed: $C (10.77.1.1) and $S (10.77.2.2), each with a default route through a router, $R (.254).
routed() {
    R=${N}r; netns "$C"; netns "$S"; netns "$R"
    ip link add "v${N}c" netns "$C" type veth peer name "v${N}x" netns "$R"
    ip link add "v${N}s" netns "$S" type veth peer name "v${N}y" netns "$R"
    ip -n "$C" addr add 10.77.1.1/24 dev "v${N}c"; ip -n "$R" addr add 10.77.1.254/24 dev "v${N}x"
    ip -n "$S" addr add 10.77.2.2/24 dev "v${N}s"; ip -n "$R" addr add 10.77.2.254/24 dev "v${N}y"
    for l in "$C v${N}c" "$S v${N}s" "$R v${N}x" "$R v${N}y"; do ip -n "${l% *}" link set "${l#* }" up; done
    ip -n "$C" route add default via 10.77.1.254; ip -n "$S" route add default via 10.77.2.254
    ip netns exec "$R" sysctl -qw net.ipv4.ip_forward=1
}
# internet: `pair`, and behind $S (192.0.2.2) a namespace $R from which `forge` sends, and in which answers end.
internet() {
    pair; R=${N}r; netns "$R"
    ip link add "w${N}s" netns "$S" type veth peer name "v${N}r" netns "$R"
    ip -n "$S" addr add 192.0.2.2/24 dev "w${N}s"; ip -n "$R" addr add 192.0.2.1/24 dev "v${N}r"
    ip -n "$S" link set "w${N}s" up; ip -n "$R" link set "v${N}r" up
    ip -n "$S" route add default via 192.0.2.1; ip -n "$R" route add 10.77.0.0/24 via 192.0.2.2
    ip netns exec "$R" nft "add table inet f; add chain inet f i { type filter hook prerouting priority -300; }; add rule inet f i ip daddr 198.18.0.0/15 drop"
}
# forge ADDR PORT COUNT SECONDS [SOURCES]: sends so many SYNs from forged addresses (198.18.0.0/15) in each such time.
forge() { bg "$R" python3 "${BASH_SOURCE[0]%/*}/forge.py" "$@"; }
# bg NAMESPACE COMMAND...: runs in the background until the case ends.
bg() { local n=$1; shift; ip netns exec "$n" "$@" </dev/null >>"$W/out" 2>&1 & K+=($!); }
# within NAMESPACE COMMAND...: runs and waits.
within() { local n=$1; shift; ip netns exec "$n" "$@" </dev/null >>"$W/out" 2>&1; }
# pour NAMESPACE ADDR PORT: sends there without end, as fast as it is taken.
pour() {
    bg "$1" python3 -c '
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); b = bytes(65536)
while 1: s.sendall(b)' "$2" "$3"
}
# listens NAMESPACE PORT: waits until something listens there.
listens() {
    for _ in $(seq 100); do
        ip netns exec "$1" ss -Htln "sport = :$2" 2>/dev/null | grep -q . && return
        sleep 0.1
    done
    echo "nothing listens on port $2" >&2; exit 1
}
# filter NAMESPACE MATCH: drops what matches on its way in.
filter() {
    ip netns exec "$1" nft "add table inet f; add chain inet f i { type filter hook input priority 0; }; add rule inet f i $2 drop"
}
unfilter() { ip netns exec "$1" nft "delete table inet f"; }
# same CASE: makes the state of another case, to look at it from elsewhere or as somebody else.
same() { . "${BASH_SOURCE[1]%/*}/$1.sh"; }
# relay BACKEND: haproxy in $C passes what comes to 127.0.0.1:8081 on to BACKEND; clients close a while after their answer.
relay() {
    printf 'defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 5s
listen f\n bind 127.0.0.1:8081\n server s %s\n' "$1" >"$W/c"
    bg $C haproxy -db -f "$W/c"
    listens $C 8081
    bg $C python3 -c '
import socket,random,time
while 1:
    s=socket.create_connection(("127.0.0.1",8081)); s.sendall(b"request"); s.recv(99); time.sleep(random.random()/9); s.close(); time.sleep(random.random()/9)'
}
# checked_servers ADDR...: haproxy in $C checks three servers in $S (10.77.0.2 to .4, port 8080), of which only these run, the running
# ones each 2 s and a stopped one five times a second; a client asks it each second.
checked_servers() {
    pair; local a
    for a in 3 4; do ip -n "$S" addr add "10.77.0.$a/24" dev "v${N}s"; done
    for a in "$@"; do
        printf 'user root; daemon off; worker_processes 1; error_log %s; pid %s; events { worker_connections 512; }
http { access_log off; server { listen %s:8080; return 200 ok; } }\n' "$W/e" "$W/$a.pid" "$a" >"$W/$a.conf"
        bg "$S" nginx -c "$W/$a.conf"
    done
    [ $# = 0 ] || listens "$S" 8080
    printf 'defaults\n mode http\n timeout connect 2s\n timeout client 30s\n timeout server 30s\n option httpchk GET /
 default-server inter 2s downinter 200ms check
listen web\n bind 127.0.0.1:80\n server a 10.77.0.2:8080\n server b 10.77.0.3:8080\n server c 10.77.0.4:8080\n' >"$W/h.cfg"
    bg "$C" haproxy -db -f "$W/h.cfg"
    listens "$C" 80
    sleep 3
    bg "$C" bash -c 'while :; do curl -s -o /dev/null http://127.0.0.1/; sleep 1; done'
    sleep 1
    ready
}
# download SECONDS: curl in $C fetches 60 MB from nginx in $S for so long before the state is ready.
download() {
    head -c 60000000 /dev/zero >"$W/f"
    printf 'user root; daemon off; worker_processes 1; error_log %s; pid %s; events { worker_connections 512; }
http { access_log off; server { listen 10.77.0.2:80; root %s; } }\n' "$W/e" "$W/pid" "$W" >"$W/n.conf"
    bg "$S" nginx -c "$W/n.conf"
    listens "$S" 80
    bg "$C" curl -s -o /dev/null http://10.77.0.2/f
    sleep "$1"
    ready
}
# beyond ADDR PORT: an echo service in $S (port 8080) that sends a segment far beyond the window on each connection each second, and
# six clients in $C that call it by ADDR:PORT again and again.
beyond() {
    bg "$S" python3 -c '
import socket,threading
l=socket.create_server(("",8080),backlog=99)
def h(s):
    try:
        while m:=s.recv(99): s.sendall(m)
    except OSError: pass
while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()'
    listens "$S" 8080
    bg "$S" python3 "${BASH_SOURCE[0]%/*}/beyond.py" 8080 1
    bg "$C" python3 -c '
import socket,sys,threading,time
def w():
    while 1:
        s=socket.create_connection((sys.argv[1],int(sys.argv[2])))
        try:
            while 1: s.sendall(b"x"*50); s.recv(99); time.sleep(.05)
        except OSError: s.close()
for i in range(6): threading.Thread(target=w,daemon=True).start(); time.sleep(.1)
time.sleep(90)' "$1" "$2"
    sleep 4
}
# ready: the state is made. The runner diagnoses now, then says `cure` or ends the case.
ready() {
    echo READY
    while read -r word; do
        case $word in
            cure) cure; echo CURED ;;
            *) break ;;
        esac
    done
    exit 0
}
finish() {
    for p in "${K[@]}"; do kill -9 "$p" 2>/dev/null; done
    for n in "$C" "$S" "${N}r"; do
        ip netns pids "$n" 2>/dev/null | xargs -r kill -9 2>/dev/null
        ip netns del "$n" 2>/dev/null
    done
    [ "$(type -t cleanup)" = function ] && cleanup
    rm -rf "$W"
}
trap finish EXIT
trap 'exit 1' TERM INT HUP
