#: title = "a postgres primary with an idle standby, an idle pg_receivewal and a few sessions"
#: kind = "K4"
#: needs = ["psql", "runuser"]
#: seconds = 34
#: look_from = "s"
#: healthy = true
pair
B=$(echo /usr/lib/postgresql/*/bin); chmod 755 "$W"; install -d -o postgres -m 700 "$W/d" "$W/r" "$W/wal"
runuser -u postgres -- $B/initdb -D "$W/d" -A trust -N >>"$W/out" 2>&1 || exit 1
printf 'host all all 10.77.0.0/24 trust\nhost replication all 10.77.0.0/24 trust\n' >>"$W/d/pg_hba.conf"
bg $S runuser -u postgres -- $B/postgres -D "$W/d" -c listen_addresses=10.77.0.2 -c unix_socket_directories= -c fsync=off -c shared_buffers=16MB
listens $S 5432; sleep 0.5
within $C runuser -u postgres -- $B/pg_basebackup -h 10.77.0.2 -D "$W/r" -R -N -c fast -X stream || exit 1
bg $C runuser -u postgres -- $B/postgres -D "$W/r" -c listen_addresses=10.77.0.1 -c unix_socket_directories= -c fsync=off -c shared_buffers=16MB
listens $C 5432
bg $C runuser -u postgres -- $B/pg_receivewal -h 10.77.0.2 -D "$W/wal" --no-sync
for i in 1 2 3; do bg $C bash -c '{ echo "begin; select 1;"; exec sleep 600; } | psql -h 10.77.0.2 -U postgres -q'; done
bg $C bash -c 'for i in $(seq 100); do psql -h 10.77.0.2 -U postgres -qAtc "select pg_current_wal_lsn()"; psql -h 10.77.0.1 -U postgres -qAtc "select pg_last_wal_replay_lsn()"; sleep 5; done'
sleep 12
ready
