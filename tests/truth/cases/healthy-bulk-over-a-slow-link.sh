#: title = "two uploads fill a link of 20 Mbit/s: send queues are full and move"
#: kind = "K4"
#: needs = ["nc", "tc"]
#: seconds = 9
#: doctor = [[], ["--once"]]
#: healthy = true
pair
tc -n $C qdisc add dev "v${N}c" root tbf rate 20mbit burst 32k latency 400ms
for p in 7001 7002; do
    bg $S bash -c "nc -l 10.77.0.2 $p >/dev/null"; listens $S $p
    bg $C bash -c "head -c 2000000000 /dev/zero | nc -N 10.77.0.2 $p"
done
sleep 4
ready
