#: title = "the postmaster is stopped: sessions work on, new clients of postgres wait for accept()"
#: kind = "K2"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: look_from = "s"
#: [[expect]]
#: rule = ["accept-queue-stalled"]
#: comm = "postgres"
#: listener = "10.77.0.2:5432"
#: cause = "stopped"
#: severity_at_least = "warning"
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off
listens $S 5432; sleep 0.5
for i in $(seq 5); do bg $C bash -c '{ while :; do echo "select 1;"; sleep 0.2; done; } | psql -h 10.77.0.2 -U postgres -q'; done
sleep 1.5
kill -STOP $(head -1 "$W/d/postmaster.pid")
for i in 1 2 3 4; do bg $C psql -h 10.77.0.2 -U postgres -c 'select 1'; done
sleep 5
ready
