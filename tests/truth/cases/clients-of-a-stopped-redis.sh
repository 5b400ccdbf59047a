#: title = "redis is stopped; twenty threads of one program, each answered every 0.4 s until then, wait without a timeout; seen from there"
#: kind = "K7"
#: needs = ["redis-server", "python3"]
#: seconds = 22
#: [[expect]]
#: rule = ["no-answer"]
#: comm = "python3"
#: destination = "10.77.0.2:6379"
#: cause = "program-stuck"
#: severity_at_least = "warning"
#: [expect.numbers]
#: waiting = [20, 20]
pair
bg $S redis-server --bind 10.77.0.2 --protected-mode no --save '' --dir "$W"
listens $S 6379; sleep 0.2
bg $C python3 -c '
import socket,threading,time
def f():
    s=socket.create_connection(("10.77.0.2",6379))
    while 1: s.sendall(b"INCR x\r\n"); s.recv(99); time.sleep(.4)
for _ in range(20): threading.Thread(target=f).start()'
sleep 4
for p in $(ip netns pids $S); do [ "$(cat /proc/$p/comm)" = redis-server ] && kill -STOP $p; done
sleep 12
ready
