#: title = "twelve sessions of a pool rest at postgres, while scripts run one query each and checks only ask for the password"
#: kind = "K4"
#: needs = ["psql", "runuser"]
#: seconds = 20
#: look_from = "s"
#: healthy = true
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
echo 'host all checker 10.77.0.0/24 scram-sha-256
host all all 10.77.0.0/24 trust' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off -c max_connections=20
listens $S 5432; sleep 0.5
for i in $(seq 12); do bg $C bash -c '{ echo "select 1;"; exec sleep 60; } | psql -h 10.77.0.2 -U postgres -q'; done
sleep 2
for i in 1 2; do bg $C bash -c 'while :; do psql -h 10.77.0.2 -U postgres -c "select 1"; sleep 0.3; done'; done
for i in 1 2 3; do bg $C bash -c "while :; do $B/pg_isready -h 10.77.0.2 -U checker; sleep 0.3; done"; done
sleep 3
ready
