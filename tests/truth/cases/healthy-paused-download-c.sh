#: title = "one user paused one download (Ctrl-Z)"
#: kind = "K4"
#: needs = ["python3", "curl"]
#: seconds = 75
#: doctor = [[], ["--once"]]
#: healthy = true
pair; truncate -s 1G $W/big
bg $S python3 -m http.server -d $W 8000; listens $S 8000
bg $C curl -s -o /dev/null http://10.77.0.2:8000/big
sleep 0.5; for p in $(ip netns pids $C); do kill -STOP $p; done
sleep 62
ready
