#: title = "four psql clients were interrupted hard; their backends finish a query of some seconds before they see it"
#: kind = "K4"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off
listens $S 5432; sleep 0.5
for i in 1 2 3 4; do bg $C timeout -s KILL 1 psql -h 10.77.0.2 -U postgres -c 'select pg_sleep(20)'; done
sleep 4
ready
