#: title = "five silent clients hold mosquitto's max_connections: whoever publishes is cut off"
#: kind = "K7"
#: needs = ["mosquitto", "mosquitto_pub", "/usr/bin/python3"]
#: seconds = 10
#: look_from = "s"
#: also = ["abort-storm", "reset-source"]
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "mosquitto"
#: listener = "10.77.0.2:1883"
#: cause = "own-limit"
#: severity_at_least = "warning"
pair
printf 'listener 1883 10.77.0.2\nmax_connections 5\nallow_anonymous true\nuser root\n' >"$W/m.conf"
bg $S mosquitto -c "$W/m.conf"
listens $S 1883
bg $C /usr/bin/python3 -c '
import socket,time
k=[]
for i in range(5):
    s=socket.create_connection(("10.77.0.2",1883)); n=b"c%d"%i
    s.sendall(b"\x10"+bytes([12+len(n)])+b"\x00\x04MQTT\x04\x02\x00\x00\x00"+bytes([len(n)])+n); s.recv(9); k.append(s)
time.sleep(600)'
sleep 1
for i in 1 2; do bg $C bash -c 'while :; do mosquitto_pub -h 10.77.0.2 -t t -m x; sleep 0.4; done'; done
sleep 3
ready
