#: title = "redis has as many clients as maxclients of its file permits, all idle: others get an error and a reset"
#: kind = "K7"
#: needs = ["redis-server", "/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: also = ["abort-storm", "reset-source"]
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "redis-server"
#: listener = "10.77.0.2:6379"
#: cause = "own-limit"
#: said = ["by reset"]
#: severity_at_least = "warning"
pair
printf 'bind 10.77.0.2\nprotected-mode no\nsave ""\ndir %s\nmaxclients 10\n' "$W" >"$W/redis.conf"
bg $S redis-server "$W/redis.conf"
listens $S 6379
bg $C /usr/bin/python3 -c '
import socket,time
def ask():
    s=socket.create_connection(("10.77.0.2",6379)); s.sendall(b"PING\r\n")
    try: return s, s.recv(99)
    except OSError: return s, b""
k=[ask()[0] for _ in range(10)]
while 1: ask()[0].close(); time.sleep(.2)'
sleep 3
ready
