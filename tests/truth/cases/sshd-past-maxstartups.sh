#: title = "five silent connections hold all of sshd's MaxStartups: every other login gets a line and the end"
#: kind = "K7"
#: needs = ["sshd", "ssh-keygen", "/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: [[expect]]
#: rule = ["closed-without-answer"]
#: comm = "sshd"
#: listener = ":2222"
#: cause = "own-limit"
#: said = ["as soon as they came"]
#: severity_at_least = "warning"
pair
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f "$W/hk"
bg $S /usr/sbin/sshd -D -e -f /dev/null -h "$W/hk" -p 2222 -o ListenAddress=10.77.0.2 -o MaxStartups=5:100:5 -o LoginGraceTime=0 -o PidFile=none
listens $S 2222
bg $C /usr/bin/python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",2222)) for _ in range(5)]
time.sleep(1)
while 1:
    s=socket.create_connection(("10.77.0.2",2222)); s.settimeout(5)
    while s.recv(100): pass
    s.close(); time.sleep(.3)'
sleep 3
ready
