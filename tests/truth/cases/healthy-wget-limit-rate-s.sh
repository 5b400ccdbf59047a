#: title = "wget --limit-rate: the reader takes what it wants"
#: kind = "K4"
#: needs = ["python3", "wget"]
#: seconds = 30
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: times = 2
#: healthy = true
pair; truncate -s 1G $W/big
bg $S python3 -m http.server -d $W 8000; listens $S 8000
bg $C wget -q --limit-rate=8k -O /dev/null http://10.77.0.2:8000/big
sleep 16
ready
