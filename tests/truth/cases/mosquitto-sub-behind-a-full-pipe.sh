#: title = "mosquitto_sub cannot write to its pipe, the broker cannot write to mosquitto_sub; three other subscribers read"
#: kind = "K2"
#: needs = ["mosquitto", "mosquitto_sub", "mosquitto_pub", "/usr/bin/python3"]
#: seconds = 20
#: look_from = "c"
#: [[expect]]
#: rule = ["recv-queue-stuck"]
#: comm = "mosquitto_sub"
#: destination = "10.77.0.2:1883"
#: said = ["full pipe"]
pair
printf 'listener 1883 10.77.0.2\nallow_anonymous true\nuser root\nmax_queued_messages 1000\n' >"$W/m.conf"
bg $S mosquitto -c "$W/m.conf"
listens $S 1883
bg $C bash -c 'mosquitto_sub -h 10.77.0.2 -k 3600 -t "plant/#" -v | { read -r x; sleep 600; }'
for i in 1 2 3; do bg $C bash -c 'mosquitto_sub -h 10.77.0.2 -k 60 -t "plant/#" | cat >/dev/null'; done
sleep 1
bg $S bash -c '/usr/bin/python3 -uc "
import time
for i in range(60000): print(\"%08d\" % i + \"v\" * 2000); time.sleep(0.01)" | mosquitto_pub -h 10.77.0.2 -t plant/a -l'
sleep 15
ready
