#: title = "a server that listens before it has loaded its data, and a nginx-like master that never accepts beside its workers"
#: kind = "K7"
#: needs = ["python3"]
#: seconds = 8
#: healthy = true
#: doctor = [[], ["--once"]]
one
bg $C python3 -c '
import socket,time
l=socket.create_server(("127.0.0.1",9500)); time.sleep(60)'
bg $C python3 -c '
import os,signal,socket
l=socket.create_server(("127.0.0.1",9501))
if os.fork():
    signal.pause()
while 1: l.accept()[0].close()'
listens $C 9501; sleep 3.5
ready
