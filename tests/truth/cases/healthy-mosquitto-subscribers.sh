#: title = "mosquitto with twenty subscribers on a 60 s keep-alive and a publisher that connects for each message"
#: kind = "K4"
#: needs = ["mosquitto", "mosquitto_sub", "mosquitto_pub"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
printf 'listener 1883 10.77.0.2\nallow_anonymous true\npersistence false\n' >"$W/m.conf"; chmod 755 "$W"
bg $S mosquitto -c "$W/m.conf"
listens $S 1883
for i in $(seq 20); do bg $C mosquitto_sub -h 10.77.0.2 -t news -k 60; done
bg $C bash -c 'while :; do mosquitto_pub -h 10.77.0.2 -t news -m hello; sleep 0.2; done'
sleep 3
ready
