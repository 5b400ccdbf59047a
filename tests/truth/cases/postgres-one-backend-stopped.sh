#: title = "one backend of postgres is stopped (a debugger was left attached): its client waits, the others work"
#: kind = "K2"
#: needs = ["psql", "runuser"]
#: seconds = 25
#: look_from = "s"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "postgres"
#: cause = "stopped"
#: severity_at_least = "warning"
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off
listens $S 5432; sleep 0.5
for i in $(seq 5); do bg $C bash -c '{ while :; do echo "select 1;"; sleep 0.2; done; } | psql -h 10.77.0.2 -U postgres -q'; done
bg $C bash -c "{ echo \"copy (select pg_backend_pid()) to '$W/d/backend';\"; sleep 3; while :; do echo 'select 1;'; sleep 0.2; done; } | psql -h 10.77.0.2 -U postgres -q"
for _ in $(seq 50); do [ -s "$W/d/backend" ] && break; sleep 0.1; done
kill -STOP $(cat "$W/d/backend")
sleep 12
ready
