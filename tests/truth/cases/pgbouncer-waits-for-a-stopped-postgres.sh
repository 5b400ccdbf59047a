#: title = "postgres is stopped behind pgbouncer: its two pooled connections wait, and new logins give up; seen from the pooler's host"
#: kind = "K7"
#: needs = ["psql", "pgbouncer", "runuser"]
#: seconds = 45
#: look_from = "c"
#: [[expect]]
#: rule = ["no-answer"]
#: comm = "pgbouncer"
#: destination = "10.77.0.2:5432"
#: cause = "program-stuck"
#: severity_at_least = "warning"
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off
listens $S 5432; sleep 0.5
printf '[databases]\npostgres = host=10.77.0.2 port=5432 dbname=postgres user=postgres
[pgbouncer]\nlisten_addr = 10.77.0.1\nlisten_port = 6432\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2
reserve_pool_size = 1\nreserve_pool_timeout = 2\nserver_connect_timeout = 6\nunix_socket_dir =\n' >"$W/p.ini"
bg $C runuser -u postgres -- pgbouncer "$W/p.ini"
listens $C 6432
for i in 1 2 3 4; do bg $C bash -c 'while :; do psql -h 10.77.0.1 -p 6432 -U postgres -c "select 1"; sleep 0.1; done'; done
sleep 6
here=$(ip netns exec $S readlink /proc/self/ns/net)
for p in $(pgrep -u postgres postgres); do [ "$(readlink "/proc/$p/ns/net")" = "$here" ] && kill -STOP "$p"; done
sleep 14
ready
