#: title = "iperf3 with eight streams at full speed"
#: kind = "K4"
#: needs = ["iperf3"]
#: seconds = 10
#: doctor = [[], ["--once"]]
#: healthy = true
pair
bg $S iperf3 -s -B 10.77.0.2
listens $S 5201
bg $C iperf3 -c 10.77.0.2 -P 8 -t 30
sleep 3
ready
