#: title = "a BGP session with the same password on both sides; a scanner without one is dropped by its signature"
#: kind = "K2"
#: needs = ["python3"]
#: seconds = 12
#: look_from = "s"
#: doctor = [[], ["--once"]]
#: healthy = true
pair
ip -n $C addr add 10.77.0.9/24 dev "v${N}c"
key='
import socket,struct,time
def key(s,a): s.setsockopt(6,14,struct.pack("=HH4s120xBBHi80s",2,0,socket.inet_aton(a),0,0,6,0,b"secret"))
'
bg $S python3 -c "$key"'
l=socket.socket(); l.setsockopt(1,2,1); key(l,"10.77.0.1"); key(l,"10.77.0.9"); l.bind(("10.77.0.2",179)); l.listen(16)
c=l.accept()[0]
while 1: c.sendall(c.recv(19))'
listens $S 179
bg $C python3 -c "$key"'
s=socket.socket(); key(s,"10.77.0.2"); s.bind(("10.77.0.1",0)); s.connect(("10.77.0.2",179))
while 1: s.sendall(b"k"*19); s.recv(19); time.sleep(1)'
bg $C python3 -c '
import socket
while 1:
    s=socket.socket(); s.settimeout(3); s.bind(("10.77.0.9",0))
    try: s.connect(("10.77.0.2",179))
    except OSError: pass
    s.close()'
sleep 6
ready
