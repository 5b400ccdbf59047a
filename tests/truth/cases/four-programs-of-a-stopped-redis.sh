#: title = "redis is stopped: each of two programs of two processes has one connection that was answered every 0.2 s until then, and waits; seen from there"
#: kind = "K7"
#: needs = ["redis-server", "python3"]
#: seconds = 20
#: doctor = [[], ["--once"]]
#: [[expect]]
#: rule = ["no-answer"]
#: destination = "10.77.0.2:6379"
#: cause = "program-stuck"
#: severity_at_least = "warning"
#: [expect.numbers]
#: waiting = [4, 4]
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379; sleep 0.2
for name in shop shop mail mail; do
    bg $C python3 -c '
import socket,sys,time
open("/proc/self/comm","w").write(sys.argv[1])
s=socket.create_connection(("10.77.0.2",6379))
while 1: s.sendall(b"INCR x\r\n"); s.recv(99); time.sleep(.2)' "$name"
done
sleep 5
for p in $(ip netns pids $S); do [ "$(cat /proc/$p/comm)" = redis-server ] && kill -STOP $p; done
sleep 11.5
ready
