#: title = "thirty workers wait in BLPOP through two stunnel; two jobs a second"
#: kind = "K4"
#: needs = ["stunnel4", "redis-server", "redis-cli", "openssl"]
#: seconds = 16
#: look_from = "s"
#: healthy = true
pair
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$W/k.pem" -out "$W/c.pem" -days 2 -subj /CN=redis >>"$W/out" 2>&1 || exit 1
bg $S redis-server --bind 127.0.0.1 --port 6379 --save '' --appendonly no --dir "$W"
listens $S 6379
cat >"$W/s.conf" <<A
foreground = yes
pid =
[redis]
accept = 10.77.0.2:6380
connect = 127.0.0.1:6379
cert = $W/c.pem
key = $W/k.pem
A
cat >"$W/c.conf" <<A
foreground = yes
pid =
[redis]
client = yes
accept = 127.0.0.1:6379
connect = 10.77.0.2:6380
A
bg $S stunnel4 "$W/s.conf"
listens $S 6380
bg $C stunnel4 "$W/c.conf"
listens $C 6379
# Workers that wait for good, workers that get the jobs, and the producer.
for i in $(seq 26); do bg $C redis-cli -p 6379 blpop quiet$i 0; done
for i in 1 2 3 4; do bg $C bash -c 'for i in $(seq 2000); do echo "blpop jobs 0"; done | redis-cli -p 6379 >/dev/null'; done
bg $C bash -c 'for i in $(seq 1200); do echo "rpush jobs $i"; sleep 0.5; done | redis-cli -p 6379 >/dev/null'
sleep 9
ready
