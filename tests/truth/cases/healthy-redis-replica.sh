#: title = "a redis replica follows its primary: one connection, a PING each ten seconds"
#: kind = "K4"
#: needs = ["redis-server"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W" --repl-diskless-sync-delay 0
mkdir "$W/r"; listens $S 6379
bg $C redis-server --bind 10.77.0.1 --protected-mode no --save '' --dir "$W/r" --replicaof 10.77.0.2 6379
sleep 4
ready
