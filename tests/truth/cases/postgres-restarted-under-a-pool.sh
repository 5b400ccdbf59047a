#: title = "postgres was restarted; twelve connections of a pool have its last words unread, and nobody noticed"
#: kind = "K7"
#: needs = ["psql", "runuser", "python3"]
#: seconds = 25
#: doctor = [[], ["--once"]]
#: also = ["close-wait-leak"]
#: [[expect]]
#: rule = ["pool-closed-at-once"]
#: comm = "python3"
#: destination = "10.77.0.2:5432"
#: cause = "sessions-ended"
#: severity_at_least = "warning"
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
up() { bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off; listens $S 5432; }
up; sleep 0.5
bg $C python3 -c '
import socket,struct,time
k=[]
for i in range(12):
    s=socket.create_connection(("10.77.0.2",5432)); m=b"user\0postgres\0database\0postgres\0\0"
    s.sendall(struct.pack("!ii",len(m)+8,196608)+m); s.recv(4096); k.append(s); time.sleep(.05)
time.sleep(120)'
for _ in $(seq 100); do [ "$(ip netns exec $C ss -Htn state established | wc -l)" = 12 ] && break; sleep 0.1; done
sleep 1; kill -INT $(head -1 "$W/d/postmaster.pid"); sleep 1
up; sleep 11
ready
