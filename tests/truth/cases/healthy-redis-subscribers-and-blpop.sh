#: title = "redis with six SUBSCRIBE and six BLPOP clients that wait for messages that do not come"
#: kind = "K4"
#: needs = ["redis-server", "redis-cli"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379
for i in 1 2 3 4 5 6; do
    bg $C redis-cli -h 10.77.0.2 SUBSCRIBE news
    bg $C redis-cli -h 10.77.0.2 BLPOP "q$i" 0
done
sleep 3
ready
