#: title = "a backup over nc: the receiver compresses and is slower than the sender, bytes flow all the time"
#: kind = "K4"
#: needs = ["nc", "gzip"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S bash -c 'nc -l 10.77.0.2 7001 | nice gzip -6 >/dev/null'
listens $S 7001
bg $C bash -c 'head -c 4000000000 /dev/urandom | nc -N 10.77.0.2 7001'
sleep 3
ready
