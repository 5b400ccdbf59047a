#: title = "six sessions wait at sshd's greeting while a monitor reads the banner five times a second and leaves"
#: kind = "K7"
#: needs = ["sshd", "ssh-keygen", "/usr/bin/python3"]
#: seconds = 9
#: look_from = "s"
#: healthy = true
pair
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f "$W/hk"
bg $S /usr/sbin/sshd -D -e -f /dev/null -h "$W/hk" -p 2222 -o ListenAddress=10.77.0.2 -o MaxStartups=50 -o PidFile=none
listens $S 2222
bg $C /usr/bin/python3 -c '
import socket,time
k=[socket.create_connection(("10.77.0.2",2222)) for _ in range(6)]
while 1:
    s=socket.create_connection(("10.77.0.2",2222)); s.recv(99); s.close(); time.sleep(.2)'
sleep 3
ready
