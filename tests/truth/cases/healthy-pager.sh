#: title = "curl into a pager that shows its first page: flow control on purpose"
#: kind = "K4"
#: needs = ["python3", "curl"]
#: seconds = 22
#: doctor = [[], ["--once"]]
#: healthy = true
pair; truncate -s 1G $W/big
bg $S python3 -m http.server -d $W 8000; listens $S 8000
bg $C bash -c 'curl -s http://10.77.0.2:8000/big | (head -c 10000 >/dev/null; sleep 60)'
sleep 13
ready
