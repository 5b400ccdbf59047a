#: title = "a backup arrives faster than the disk takes it: the receiver waits in write to a pipe"
#: kind = "K4"
#: needs = ["python3"]
#: seconds = 24
#: doctor = [[], ["--once"]]
#: times = 2
#: healthy = true
one
bg $C bash -c 'python3 -c "
import socket,os
l=socket.create_server((\"127.0.0.1\",9000)); s,_=l.accept()
while 1:
    b=s.recv(65536)
    while b: b=b[os.write(1,b):]
" | while dd bs=8192 count=1 of=/dev/null 2>/dev/null; do sleep 2.5; done'
listens $C 9000
bg $C bash -c 'dd if=/dev/zero bs=64k count=4000 2>/dev/null | python3 -c "
import socket,sys
s=socket.create_connection((\"127.0.0.1\",9000))
while 1:
    b=sys.stdin.buffer.read(65536)
    if not b: break
    s.sendall(b)"'
sleep 14
ready
