#: title = "redis-cli sessions that the server ended for idleness"
#: kind = "K4"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 85
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save "" --timeout 2 --tcp-keepalive 0; listens $S 6379
for i in $(seq 8); do
    mkfifo "$W/f$i"
    bg $C bash -c "{ echo PING; sleep 300; } >$W/f$i & redis-cli -h 10.77.0.2 <$W/f$i"
done
sleep 72
ready
