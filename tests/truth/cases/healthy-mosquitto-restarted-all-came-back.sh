#: title = "mosquitto was restarted, sixty subscribers were refused for a moment and are all back"
#: kind = "K4"
#: needs = ["mosquitto", "mosquitto_sub", "mosquitto_pub"]
#: seconds = 30
#: look_from = "s"
#: healthy = true
pair
printf 'listener 1883 10.77.0.2\nallow_anonymous true\nuser root\n' >"$W/m.conf"
bg $S mosquitto -c "$W/m.conf"; M=$!
listens $S 1883
for i in $(seq 60); do bg $C bash -c 'exec mosquitto_sub -h 10.77.0.2 -k 20 -t "house/#" >/dev/null'; done
bg $C bash -c 'for i in $(seq 600); do timeout 5 mosquitto_pub -h 10.77.0.2 -t house/a -m $i; sleep 0.7; done'
sleep 4
kill $M; wait $M 2>/dev/null; sleep 2.5
bg $S mosquitto -c "$W/m.conf"
listens $S 1883
sleep 16
ready
