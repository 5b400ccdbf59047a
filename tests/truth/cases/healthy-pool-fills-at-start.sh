#: title = "an application starts: its pool opens forty connections to postgres in some seconds, and stops there"
#: kind = "K7"
#: needs = ["psql", "runuser", "python3"]
#: seconds = 20
#: times = 2
#: healthy = true
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off
listens $S 5432; sleep 0.5
# The startup message of protocol 3.0 and the answers up to ReadyForQuery.
bg $C python3 -c '
import socket,struct,time
k=[]
def login():
    s=socket.create_connection(("10.77.0.2",5432)); b=struct.pack("!I",196608)+b"user\0postgres\0\0"
    s.sendall(struct.pack("!I",len(b)+4)+b); d=b""
    while b"Z\0\0\0\5I" not in d: d+=s.recv(9999)
    return s
for i in range(40): k.append(login()); time.sleep(0.15)
time.sleep(60)'
sleep 3.5
ready
