#: title = "clients of a word-count service end their side (nc -N) and wait for the answer"
#: kind = "K4"
#: needs = ["socat", "nc"]
#: seconds = 9
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S socat -t 30 TCP-LISTEN:7000,bind=10.77.0.2,fork,reuseaddr,backlog=64 SYSTEM:'n=$(wc -w); sleep 2; echo $n'
listens $S 7000
bg $C bash -c 'for i in 1 2 3 4; do (while :; do echo a b c | nc -N 10.77.0.2 7000; done) & sleep 0.4; done; wait'
sleep 3
ready
